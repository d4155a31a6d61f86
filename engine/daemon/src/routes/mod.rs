//! The endpoints' handlers, a module per kind of object. What they change belongs elsewhere.

/// Registers handlers that share something: `routes!(router.on(shared) { "Operation" handler; })`.
macro_rules! routes {
    ($router:ident.$how:ident($shared:expr) { $($operation:literal $handler:path;)* }) => {$(
        let own = $shared.clone();
        $router.$how($operation, move |request| $handler(own.clone(), request));
    )*};
}

pub mod absent;
pub mod containers;
pub mod exec;
pub mod images;
pub mod networks;
mod patterns;
pub mod registries;
pub mod system;
pub mod transfers;
pub mod volumes;
