//! The shim: owns one container's stdio, logs and exit. All of it is in the library.

fn main() -> std::process::ExitCode {
    shim::main()
}
