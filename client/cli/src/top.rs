//! From argv to a command and its exit code.

use crate::args::{self, Matches, Refusal};
use crate::commands::{self, Op};
use crate::error::{CliError, Result};
use crate::help::Page;
use crate::session::{Session, load_config, write_out};
use crate::spec::Action;
use crate::table::ROOT;
use crate::{complete, plugin};
use std::io::Write;

/// Runs the program: reads its arguments, carries the command out, gives its exit code.
pub fn main(argv: &[String]) -> u8 {
    let name = argv.first().map_or("ferry", |p| p.rsplit('/').next().unwrap_or(p));
    let result = run(name, argv.get(1..).unwrap_or_default());
    match result {
        Ok(()) => 0,
        Err(error) => {
            let text = error.to_string();
            if !text.is_empty() {
                let _ = writeln!(std::io::stderr(), "{}", text.trim_end_matches('\n'));
            }
            error.code()
        }
    }
}

fn run(program: &str, argv: &[String]) -> Result<()> {
    let page = Page::new(program);
    if let Some(word @ ("__complete" | "__completeNoDesc")) = argv.first().map(String::as_str) {
        let words = &argv[1..];
        if let Some((found, flags)) = complete::plugin(words) {
            return found.run(&flags, argv);
        }
        return in_runtime(complete::run(program, words, word == "__complete"));
    }
    let globals = args::globals(&ROOT, argv);
    let globals = match globals {
        Ok(globals) => globals,
        Err(refusal) => return refuse(&page, refusal, None),
    };
    let flags = globals.matches;
    let words = globals.rest;
    if !matches!(
        flags.text("log-level"),
        "debug" | "info" | "warn" | "warning" | "error" | "fatal" | "panic" | "trace"
    ) {
        let level = flags.text("log-level");
        return Err(CliError::new(format!("Unable to parse logging level: {level}")));
    }
    if flags.on("version") {
        let version = env!("CARGO_PKG_VERSION");
        write_out(format!("Ferry version {version}, build {}\n", commands::BUILD).as_bytes());
        return Ok(());
    }
    if words.is_empty() {
        write_out(root_help(page, &flags).as_bytes());
        return Ok(());
    }
    if words[0] == "help" {
        if let [_, word, ..] = &words[..]
            && ROOT.child(word).is_none()
            && let Some(found) = plugin::find(&flags, word)
        {
            return found.run(&flags, argv);
        }
        return help(&page, &flags, &words[1..]);
    }
    match args::command(&ROOT, &words) {
        Ok(matches) => match matches.command.action {
            Action::Group(_) => {
                let text = page.render(&matches.path, matches.command);
                let _ = std::io::stderr().write_all(text.as_bytes());
                Ok(())
            }
            Action::Run(op) => carry_out(program, flags, matches, op),
        },
        Err(Refusal::Unknown { word, path, rest }) if path.is_empty() => {
            if let Some(found) = plugin::find(&flags, &word) {
                return found.run(&flags, argv);
            }
            if rest.iter().any(|w| w == "--help") {
                write_out(root_help(page, &flags).as_bytes());
                return Ok(());
            }
            refuse(&page, Refusal::Unknown { word, path, rest }, Some(&flags))
        }
        Err(refusal) => refuse(&page, refusal, Some(&flags)),
    }
}

fn root_help(mut page: Page, flags: &Matches) -> String {
    page.plugins = plugin::list(flags);
    page.render(&[], &ROOT)
}

fn help(page: &Page, flags: &Matches, words: &[String]) -> Result<()> {
    let mut path = Vec::new();
    let mut command = &ROOT;
    for word in words {
        let Some(found) = command.child(word) else {
            return Err(CliError::new(format!("unknown help topic: {}", words.join(" "))));
        };
        path.push(found.name);
        command = found;
    }
    let text =
        if path.is_empty() { root_help(page.clone(), flags) } else { page.render(&path, command) };
    write_out(text.as_bytes());
    Ok(())
}

/// Tells why a command line is not carried out.
fn refuse(page: &Page, refusal: Refusal, flags: Option<&Matches>) -> Result<()> {
    let program = &page.program;
    match refusal {
        Refusal::Help { path, command, short } => {
            let note = "Flag shorthand -h has been deprecated, use --help\n";
            if path.is_empty() {
                let none = args::globals(&ROOT, &[]).ok().map(|g| g.matches);
                if let Some(flags) = flags.or(none.as_ref()) {
                    write_out(root_help(page.clone(), flags).as_bytes());
                }
                if short {
                    let _ = std::io::stderr().write_all(note.as_bytes());
                }
                return Ok(());
            }
            let note = if short { note } else { "" };
            write_out(format!("{note}{}", page.render(&path, command)).as_bytes());
            Ok(())
        }
        Refusal::Flag { message, path, command } => {
            let hint = page.usage_hint(&path, command);
            Err(CliError::coded(125, format!("{message}\n\n{hint}")))
        }
        Refusal::Unknown { word, path, .. } => {
            let full = page.full(&path);
            let usage = if path.is_empty() { String::new() } else { format!("Usage:  {full}\n\n") };
            Err(CliError::new(format!(
                "{program}: unknown command: {full} {word}\n\n{usage}Run '{full} --help' for more information"
            )))
        }
        Refusal::Arity(matches) => {
            let full = page.full(&matches.path);
            let mut hint = page.usage_hint(&matches.path, matches.command);
            if matches!(matches.command.arity, crate::spec::Arity::AtLeast(_)) {
                hint = hint.replace("\n\nRun '", "\n\nSee '");
            }
            let wants = matches.command.arity.wants();
            Err(CliError::new(format!("{program}: '{full}' {wants}\n\n{hint}")))
        }
    }
}

fn in_runtime<F: Future<Output = Result<()>>>(work: F) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // A thread may still wait for standard input; the program ends without it.
    runtime.shutdown_background();
    result
}

fn carry_out(program: &str, flags: Matches, matches: Matches, op: Op) -> Result<()> {
    for note in &matches.notes {
        write_out(format!("{note}\n").as_bytes());
    }
    let config = load_config(&flags);
    let session = Session::new(program.to_owned(), flags, matches, config);
    let passes_on = matches!(op, Op::Run | Op::Start | Op::Attach | Op::Exec | Op::DialStdio);
    in_runtime(async {
        if passes_on {
            return commands::run(&session, op).await;
        }
        tokio::select! {
            result = commands::run(&session, op) => result,
            code = interrupted() => Err(CliError::silent(code)),
        }
    })
}

/// The exit code of a program that a signal asked to end, once one came.
async fn interrupted() -> u8 {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
    }
}
