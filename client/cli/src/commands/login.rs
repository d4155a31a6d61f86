//! `login` and `logout`.

use std::io::{BufRead, Read};

use engine_api::{AuthConfig, AuthResponse};
use engine_client::Query;

use crate::credentials::{self, HUB};
use crate::error::{CliError, Result};
use crate::session::Session;
use crate::terminal::raw;

/// Most that is read as a password.
const MAX_PASSWORD: u64 = 1 << 20;

/// The key under which the credentials of the registry that was named are kept.
fn server(s: &Session) -> String {
    match s.matches.args.first().map(String::as_str) {
        None | Some("" | "docker.io") => HUB.to_owned(),
        Some(address) => credentials::hostname(address).to_owned(),
    }
}

/// The password that was given, by flag or on standard input.
fn given_password(s: &Session) -> Result<String> {
    let m = &s.matches;
    for flag in ["username", "password"] {
        if m.given(flag) && m.text(flag).is_empty() {
            return Err(CliError::new(format!("{flag} is empty")));
        }
    }
    if m.given("password") {
        if m.on("password-stdin") {
            let text = "conflicting options: cannot specify both --password and --password-stdin";
            return Err(CliError::new(text));
        }
        s.tell("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        return Ok(m.text("password").to_owned());
    }
    if !m.on("password-stdin") {
        return Ok(String::new());
    }
    if m.text("username").is_empty() {
        return Err(CliError::new("the --password-stdin option requires --username to be set"));
    }
    let mut text = String::new();
    std::io::stdin().lock().take(MAX_PASSWORD).read_to_string(&mut text)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

pub(super) async fn login(s: &Session) -> Result<()> {
    let password = given_password(s)?;
    let user = s.matches.text("username");
    let server = server(s);
    let mut known = AuthConfig::default();
    if user.is_empty() && password.is_empty() {
        known = credentials::get(&s.config, &server).unwrap_or_default();
        known.serveraddress.clone_from(&server);
        if !known.username.is_empty() && !known.password.is_empty() && again(s, &known).await? {
            return Ok(());
        }
    }
    let auth = ask(s, user, password, &known.username, &server)?;
    let answer = request(s, &auth).await?;
    keep(s, auth, &answer)
}

/// Logs in with what is known already; whether that went well.
async fn again(s: &Session, known: &AuthConfig) -> Result<bool> {
    s.tell(&format!(
        "Authenticating with existing credentials... [Username: {}]\n\n Info -> To login with a \
         different account, run '{program} logout' followed by '{program} login'\n\n",
        known.username,
        program = s.program
    ));
    match request(s, known).await {
        Ok(answer) => keep(s, known.clone(), &answer).map(|()| true),
        Err(error) => {
            s.tell(&format!("Login did not succeed, error: {error}"));
            Ok(false)
        }
    }
}

async fn request(s: &Session, auth: &AuthConfig) -> Result<AuthResponse> {
    s.send("/auth", &Query::new(), auth).await
}

fn keep(s: &Session, mut auth: AuthConfig, answer: &AuthResponse) -> Result<()> {
    if !answer.identity_token.is_empty() {
        auth.password.clear();
        auth.identitytoken.clone_from(&answer.identity_token);
    }
    let mut config = s.config.clone();
    if credentials::store(&mut config, &auth)? {
        s.tell(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential \
             helper to remove this warning. See\n\
             https://docs.docker.com/go/credential-store/\n",
            config.file().display()
        ));
    }
    if !answer.status.is_empty() {
        s.line(&answer.status);
    }
    Ok(())
}

/// Asks for what is missing, the password without showing it.
fn ask(s: &Session, user: &str, password: String, known: &str, server: &str) -> Result<AuthConfig> {
    let (mut user, mut password) = (user.trim().to_owned(), password.trim().to_owned());
    if (user.is_empty() || password.is_empty()) && !raw::stdin_is_terminal() {
        let text = "Error: Cannot perform an interactive login from a non TTY device";
        return Err(CliError::new(text));
    }
    if user.is_empty() {
        if server == HUB {
            s.line(
                "Log in with your Docker ID or email address to push and pull images from Docker \
                 Hub. If you don't have a Docker ID, head over to https://hub.docker.com/ to \
                 create one.\nYou can log in with your password or a Personal Access Token (PAT). \
                 Using a limited-scope PAT grants better security and is required for \
                 organizations using SSO. Learn more at https://docs.docker.com/go/access-tokens/\n",
            );
        }
        let known = known.trim();
        let prompt =
            if known.is_empty() { "Username: ".into() } else { format!("Username ({known}): ") };
        user = read_line(s, &prompt)?;
        if user.is_empty() {
            known.clone_into(&mut user);
        }
        if user.is_empty() {
            return Err(CliError::new("Error: Non-null Username Required"));
        }
    }
    if password.is_empty() {
        let quiet = raw::Quiet::stdin()?;
        password = read_line(s, "Password: ")?;
        drop(quiet);
        s.print("\n");
        if password.is_empty() {
            return Err(CliError::new("Error: Password Required"));
        }
    }
    Ok(AuthConfig {
        username: user,
        password,
        serveraddress: server.to_owned(),
        ..AuthConfig::default()
    })
}

fn read_line(s: &Session, prompt: &str) -> Result<String> {
    s.print(prompt);
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

pub(super) async fn logout(s: &Session) -> Result<()> {
    let server = server(s);
    // Older clients kept addresses with their scheme.
    let mut keys = vec![server.clone()];
    if server != HUB {
        keys.extend([format!("http://{server}"), format!("https://{server}")]);
    }
    s.line(&format!("Removing login credentials for {server}"));
    let mut config = s.config.clone();
    let mut errors = Vec::new();
    for key in &keys {
        if let Err(error) = credentials::erase(&mut config, key) {
            errors.push(error.to_string());
        }
    }
    // One key is where they were; that the others hold nothing is no failure.
    if errors.len() == keys.len() {
        s.tell(&format!("WARNING: could not erase credentials:\n{}", errors.join("\n")));
    }
    Ok(())
}
