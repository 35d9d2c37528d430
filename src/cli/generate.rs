//! `generate`: the manual pages and the completions, from the same definition as the command line itself.

use super::args::{Cli, Generate, What};
use super::{cannot_print, exit};
use crate::error::{Error, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::io::{self, Write};
use std::path::Path;

pub fn generate(given: &Generate) -> Result<u8> {
    match &given.what {
        What::Man { dir } if dir == Path::new("-") => {
            let page = page(&command(), "stmount").map_err(cannot_print)?;
            io::stdout().write_all(&page).map_err(cannot_print)?;
        }
        What::Man { dir } => pages(dir)?,
        What::Completions { shell } => completions(shell)?,
    }
    Ok(exit::OK)
}

fn command() -> Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// `stmount.1`, and `stmount-VERB.1` for each verb.
fn pages(dir: &Path) -> Result<()> {
    let failed = |e| Error::io(e, format!("cannot write the manual to {}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    let command = command();
    std::fs::write(dir.join("stmount.1"), page(&command, "stmount").map_err(failed)?).map_err(failed)?;
    for verb in command.get_subcommands().filter(|v| !v.is_hide_set()) {
        let name = format!("stmount-{}", verb.get_name());
        let text = page(verb, &name).map_err(failed)?;
        std::fs::write(dir.join(format!("{name}.1")), text).map_err(failed)?;
    }
    Ok(())
}

fn page(command: &Command, name: &str) -> io::Result<Vec<u8>> {
    let command = command.clone().display_name(name.to_owned());
    let man = Man::new(command.clone()).title(name.to_uppercase()).manual("stmount");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out)?;
    }
    examples(&command).to_writer(&mut out)?;
    exit_status().to_writer(&mut out)?;
    see_also(name).to_writer(&mut out)?;
    Ok(out)
}

/// The text below the options in `--help`, with its lines as they are.
fn examples(command: &Command) -> Roff {
    let mut roff = Roff::new();
    let Some(text) = command.get_after_help().map(ToString::to_string) else { return roff };
    roff.control("SH", ["EXAMPLES"]).control("nf", []);
    roff.text([roman(text.trim_start_matches("EXAMPLES\n"))]);
    roff.control("fi", []);
    roff
}

fn exit_status() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, what) in exit::TABLE {
        roff.control("TP", []).text([bold(code.to_string())]).text([roman(*what)]);
    }
    roff
}

fn see_also(name: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    let main = if name == "stmount" { "" } else { "stmount(1), " };
    roff.text([roman(format!("{main}mount(8), fuse(8), fusermount3(1)"))]);
    roff
}

fn completions(shell: &str) -> Result<()> {
    let shell = match shell {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        _ => Shell::Fish,
    };
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "stmount", &mut out);
    io::stdout().write_all(&out).map_err(cannot_print)
}
