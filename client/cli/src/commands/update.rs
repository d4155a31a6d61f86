//! `update`.

use crate::error::{CliError, Result};
use crate::run::{config, limits};
use crate::session::Session;
use engine_api::{ContainerUpdateRequest, ContainerUpdateResponse, RestartPolicy};
use engine_client::Query;

pub(super) async fn update(s: &Session) -> Result<()> {
    let m = &s.matches;
    if m.all_given().next().is_none() {
        return Err(CliError::new("you must provide one or more flags when using this command"));
    }
    let restart_policy = match m.text("restart") {
        "" => RestartPolicy::default(),
        text => config::restart_policy(text).map_err(CliError::new)?,
    };
    let request = ContainerUpdateRequest { resources: limits::resources(m), restart_policy };
    s.each(async |name| {
        let path = format!("/containers/{name}/update");
        let answer: ContainerUpdateResponse = s.send(&path, &Query::new(), &request).await?;
        for warning in answer.warnings.unwrap_or_default() {
            s.tell(&warning);
        }
        Ok(())
    })
    .await
}
