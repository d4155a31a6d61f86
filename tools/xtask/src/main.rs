//! `cargo xtask`: every chore of the project in one place. Each command is a module;
//! this file only picks one. Nothing here is linked into what users run.

mod bench;
mod build;
mod fuzz;
mod host;
mod run;
mod setup;
mod test;
mod tidy;
mod vm;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask COMMAND

  ferry ARGS...   build the five programs, then run `ferry ARGS...`
  setup           install what tests and benches need (as root, Debian's packages)
  test            everything that CI runs: gates, unit tests, seam suites
  tidy            structure: file and function sizes, forbidden links, unsafe code
  bench [NAME]    measure against the installed peers, print ratios
                  (runtime, engine, scale; default: all)
  vm [COMMAND]    a command in a virtual machine with Debian's kernel (vm --help)
  fuzz [SECONDS] [TARGET...]
                  fuzz targets, each so long (tools/fuzz/README.md)
  dist            every program, optimised, in target/dist/
";

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    std::env::set_current_dir(run::workspace_root())?;
    match command.as_str() {
        "ferry" => host::require().and_then(|()| build::run_ferry(&rest)),
        "setup" => {
            setup::all();
            Ok(())
        }
        "test" => test::all(&rest),
        "tidy" => tidy::check(),
        "bench" => bench::main(&rest),
        "vm" => vm::main(&rest),
        "fuzz" => fuzz::main(&rest),
        "dist" => build::dist().map(|folder| println!("{}", folder.display())),
        "" | "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        other => bail!("no command `{other}`; `cargo xtask help` lists them"),
    }
}
