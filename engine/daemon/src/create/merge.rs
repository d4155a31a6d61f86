//! The image's defaults under what a client asks for. Pure.

use engine_api::ContainerConfig;

use crate::http::ApiError;

/// The configuration with the image's defaults merged in.
pub fn config(
    mut own: ContainerConfig,
    image: &ContainerConfig,
) -> Result<ContainerConfig, ApiError> {
    if own.user.is_empty() {
        own.user.clone_from(&image.user);
    }
    merge_map(&mut own.exposed_ports, image.exposed_ports.as_ref());
    own.env = Some(merge_env(
        own.env.take().unwrap_or_default(),
        image.env.as_deref().unwrap_or_default(),
    ));
    merge_map(&mut own.labels, image.labels.as_ref());
    own.labels.get_or_insert_default();
    if own.entrypoint.as_ref().is_none_or(Vec::is_empty)
        && own.cmd.as_ref().is_none_or(Vec::is_empty)
    {
        own.cmd.clone_from(&image.cmd);
        own.args_escaped = image.args_escaped;
    }
    if own.entrypoint.is_none() {
        own.entrypoint.clone_from(&image.entrypoint);
    } else if own.entrypoint.as_ref().is_some_and(|e| e.len() == 1 && e[0].is_empty()) {
        own.entrypoint = None;
    }
    match (&mut own.healthcheck, &image.healthcheck) {
        (None, image) => own.healthcheck.clone_from(image),
        (Some(own), Some(image)) if own.test.as_ref().is_none_or(Vec::is_empty) => {
            own.test.clone_from(&image.test);
        }
        _ => {}
    }
    if own.working_dir.is_empty() {
        own.working_dir.clone_from(&image.working_dir);
    }
    merge_map(&mut own.volumes, image.volumes.as_ref());
    own.volumes.take_if(|volumes| volumes.is_empty());
    if own.stop_signal.is_empty() {
        own.stop_signal.clone_from(&image.stop_signal);
    }
    if own.on_build.is_none() {
        own.on_build.clone_from(&image.on_build);
    }
    if own.shell.is_none() {
        own.shell.clone_from(&image.shell);
    }
    Ok(own)
}

fn merge_map<V: Clone>(
    own: &mut Option<std::collections::BTreeMap<String, V>>,
    image: Option<&std::collections::BTreeMap<String, V>>,
) {
    if let Some(image) = image.filter(|m| !m.is_empty()) {
        let own = own.get_or_insert_default();
        for (key, value) in image {
            own.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

fn merge_env(mut own: Vec<String>, image: &[String]) -> Vec<String> {
    let name = |e: &str| e.split('=').next().unwrap_or_default().to_owned();
    for variable in image {
        if !own.iter().any(|o| name(o) == name(variable)) {
            own.push(variable.clone());
        }
    }
    own
}

/// Entry point and command together.
pub fn command(config: &ContainerConfig) -> Result<Vec<String>, ApiError> {
    let words = config.entrypoint.iter().chain(&config.cmd).flatten().cloned().collect::<Vec<_>>();
    if words.is_empty() {
        return Err(ApiError::bad_request("no command specified"));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::unnecessary_wraps, reason = "the fields are optional")]
    fn words(list: &[&str]) -> Option<Vec<String>> {
        Some(list.iter().map(|w| (*w).to_owned()).collect())
    }

    #[test]
    fn the_images_command_is_dropped_with_another_entry_point() {
        let image = ContainerConfig {
            entrypoint: words(&["/e"]),
            cmd: words(&["c"]),
            env: words(&["A=1", "B=2"]),
            ..Default::default()
        };
        let plain = config(ContainerConfig::default(), &image).unwrap();
        assert_eq!(command(&plain).unwrap(), ["/e", "c"]);
        let own = ContainerConfig {
            entrypoint: words(&["/x"]),
            env: words(&["B=3"]),
            ..Default::default()
        };
        let own = config(own, &image).unwrap();
        assert_eq!(command(&own).unwrap(), ["/x"]);
        assert_eq!(own.env, words(&["B=3", "A=1"]));
        let reset =
            ContainerConfig { entrypoint: words(&[""]), cmd: words(&["sh"]), ..Default::default() };
        assert_eq!(command(&config(reset, &image).unwrap()).unwrap(), ["sh"]);
    }

    #[test]
    fn nothing_to_run_is_an_error() {
        assert_eq!(
            command(&ContainerConfig::default()).unwrap_err().message,
            "no command specified"
        );
    }
}
