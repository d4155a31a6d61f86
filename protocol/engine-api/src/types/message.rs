//! Messages of streams that report progress: load, import, pull, push.

use crate::Value;

api! {
    /// One message.
    JsonMessage = "jsonmessage.JSONMessage" {
        stream: String = "stream".go("Stream").omitempty();
        status: String = "status".go("Status").omitempty();
        progress_detail: Option<ProgressDetail> = "progressDetail".go("Progress").omitempty();
        progress: String = "progress".go("ProgressMessage").omitempty();
        id: String = "id".go("ID").omitempty();
        from: String = "from".go("From").omitempty();
        time: i64 = "time".go("Time").omitempty();
        time_nano: i64 = "timeNano".go("TimeNano").omitempty();
        error_detail: Option<ErrorDetail> = "errorDetail".go("Error").omitempty();
        error: String = "error".go("ErrorMessage").omitempty();
        aux: Option<Value> = "aux".go("Aux").omitempty();
    }

    /// How far an action is.
    ProgressDetail = "jsonmessage.JSONProgress" {
        current: i64 = "current".go("Current").omitempty();
        total: i64 = "total".go("Total").omitempty();
        start: i64 = "start".go("Start").omitempty();
        hidecounts: bool = "hidecounts".go("HideCounts").omitempty();
        units: String = "units".go("Units").omitempty();
    }

    /// What went wrong.
    ErrorDetail = "jsonmessage.JSONError" {
        code: i64 = "code".go("Code").omitempty();
        message: String = "message".go("Message").omitempty();
    }

    /// What `X-Registry-Auth` holds, and the body of `POST /auth`.
    AuthConfig = "registry.AuthConfig" {
        username: String = "username".go("Username").omitempty();
        password: String = "password".go("Password").omitempty();
        auth: String = "auth".go("Auth").omitempty();
        email: String = "email".go("Email").omitempty();
        serveraddress: String = "serveraddress".go("ServerAddress").omitempty();
        identitytoken: String = "identitytoken".go("IdentityToken").omitempty();
        registrytoken: String = "registrytoken".go("RegistryToken").omitempty();
    }

    /// The reply of `POST /auth`.
    AuthResponse = "registry.AuthenticateOKBody" {
        identity_token: String = "IdentityToken";
        status: String = "Status";
    }
}

impl JsonMessage {
    /// A line of text to show as it is.
    pub fn stream(text: impl Into<String>) -> Self {
        Self { stream: text.into(), ..Self::default() }
    }
    /// What is happening.
    pub fn status(text: impl Into<String>) -> Self {
        Self { status: text.into(), ..Self::default() }
    }
    /// What is happening to the object `id`.
    pub fn status_of(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self { id: id.into(), status: text.into(), ..Self::default() }
    }
    /// What is happening to the object `id`, which goes on.
    pub fn action(id: impl Into<String>, text: impl Into<String>) -> Self {
        let progress_detail = Some(ProgressDetail::default());
        Self { progress_detail, ..Self::status_of(id, text) }
    }
    /// How far an action on the object `id` is, with docker's bar.
    pub fn progress(id: impl Into<String>, text: &str, current: u64, total: u64) -> Self {
        let clip = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let detail = ProgressDetail {
            current: clip(current),
            total: clip(total),
            ..ProgressDetail::default()
        };
        let progress = crate::units::progress_bar(&detail, 0);
        Self { progress, progress_detail: Some(detail), ..Self::status_of(id, text) }
    }
    /// A value for programs.
    pub fn aux(value: Value) -> Self {
        let progress_detail = Some(ProgressDetail::default());
        Self { aux: Some(value), progress_detail, ..Self::default() }
    }
    /// The failure that ends the stream.
    pub fn failure(text: impl Into<String>) -> Self {
        let message: String = text.into();
        let error_detail = Some(ErrorDetail { code: 0, message: message.clone() });
        Self { error: message, error_detail, ..Self::default() }
    }
    /// The message as one line of the stream, ended as dockerd ends it.
    pub fn line(&self) -> String {
        crate::encode_html(self, crate::ApiVersion::MAX) + "\r\n"
    }
}
