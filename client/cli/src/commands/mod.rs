//! What each command does: one function each, grouped by what they are about.

mod containers;
mod contexts;
mod events;
mod exec;
mod images;
mod info;
mod inspect;
mod lists;
mod login;
mod manifest;
mod networks;
mod prune;
mod run;
mod search;
mod start;
mod update;
mod usage;
mod version;

use crate::error::Result;
use crate::session::Session;

/// What this build is called.
pub(crate) const BUILD: &str = match option_env!("FERRY_BUILD") {
    Some(build) => build,
    None => "unknown",
};

macro_rules! operations {
    ($( $name:ident => $call:path, )*) => {
        /// Everything that can be carried out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Op {
            /// Groups have nothing to carry out but their help.
            Help,
            $(
                #[doc = concat!("`", stringify!($name), "`")]
                $name,
            )*
        }

        /// Carries a command out.
        pub(crate) async fn run(session: &Session, op: Op) -> Result<()> {
            match op {
                Op::Help => Ok(()),
                $( Op::$name => $call(session).await, )*
            }
        }
    };
}

operations! {
    Attach => start::attach,
    Commit => images::commit,
    Completion => version::completion,
    ContainerInspect => inspect::containers,
    ContainerList => lists::containers,
    ContainerPrune => prune::containers,
    ContextCreate => contexts::create,
    ContextInspect => contexts::inspect,
    ContextList => contexts::list,
    ContextRemove => contexts::remove,
    ContextShow => contexts::show,
    ContextUse => contexts::choose,
    Create => run::create,
    DialStdio => version::dial_stdio,
    Diff => containers::diff,
    Events => events::events,
    Exec => exec::exec,
    Export => images::export,
    History => lists::history,
    ImageInspect => inspect::images,
    ImageList => lists::images,
    ImagePrune => prune::images,
    ImageRemove => images::remove,
    Import => images::import,
    Info => info::info,
    Inspect => inspect::anything,
    Kill => containers::kill,
    Load => images::load,
    Login => login::login,
    Logout => login::logout,
    Logs => containers::logs,
    ManifestAnnotate => manifest::annotate,
    ManifestCreate => manifest::create,
    ManifestInspect => manifest::inspect,
    ManifestPush => manifest::push,
    ManifestRemove => manifest::remove,
    NetworkConnect => networks::connect,
    NetworkCreate => networks::create,
    NetworkDisconnect => networks::disconnect,
    NetworkInspect => inspect::networks,
    NetworkList => lists::networks,
    NetworkPrune => prune::networks,
    NetworkRemove => networks::remove,
    Pause => containers::pause,
    Port => containers::port,
    Pull => images::pull,
    Push => images::push,
    Remove => containers::remove,
    Rename => containers::rename,
    Restart => containers::restart,
    Run => run::run,
    Save => images::save,
    Search => search::search,
    Start => start::start,
    Stop => containers::stop,
    SystemPrune => prune::system,
    SystemUsage => usage::usage,
    Tag => images::tag,
    Top => containers::top,
    Unpause => containers::unpause,
    Update => update::update,
    Version => version::version,
    Wait => containers::wait,
}
