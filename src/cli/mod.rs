//! Floor 5: the door for people. Words become plain options, results become text; nothing below prints.
//!
//! ```text
//!  args      the command line as clap sees it            exit     the table of exit codes
//!  plan      words -> options, paths, mount points       say      errors, sizes, times, names on a terminal
//!  daemon    the life of a mount     helper  mount(8)    progress bars and JSON lines
//!  unmount   umount, sync, status, list   run     run         output   a file that appears when it is complete
//!  pack      pack, unpack            append  pack --append, --update
//!  writing   the formats that are written, convert, index         find  find
//!  inspect   ls, cat, info, check    examine what info and check find out
//!  history   log, snapshot, restore, compact                       overlay overlay
//!  upload    put, and archives that are packed to a server
//!  thin      fat, store, and what pack --base packs over
//!  fetch     sync ADDRESS FILE
//!  create    create                  recover recover           parity  parity, check --repair
//!  volumes   split, join, and lost volumes made anew
//!  ask       passwords, identities, keyfiles           sealing  for whom a new container is sealed
//!  keyring   login, logout, and passwords that are stored
//!  keys      key, rekey                keep    prefetch, pin, unpin
//!  trust     keygen, trust           sign    sign, verify
//!  generate  manual, completions                         logging  stderr, syslog, a file
//! ```

mod amend;
mod append;
pub mod args;
mod ask;
mod create;
mod daemon;
mod examine;
pub mod exit;
mod fetch;
mod find;
mod generate;
mod heap;
mod helper;
mod history;
mod inspect;
mod keep;
mod keyring;
mod keys;
mod logging;
mod output;
mod overlay;
mod pack;
mod parity;
mod plan;
mod progress;
mod recover;
mod run;
mod say;
pub mod sealing;
mod sign;
mod thin;
mod trust;
mod unmount;
mod upload;
mod volumes;
mod writing;

use crate::error::{Error, Result};
use args::{Cli, Verb};
use clap::Parser;
use std::io::{self, Write};
use std::process::ExitCode;

/// The whole program.
pub fn main() -> ExitCode {
    let given: Vec<_> = std::env::args_os().collect();
    let argv = args::with_verb(given.clone());
    let code = match argv.get(1).and_then(|verb| verb.to_str()) {
        Some(args::MOUNT_HELPER) => ended(helper::mount(&argv[2..])),
        Some(args::UMOUNT_HELPER) => ended(helper::umount(&argv[2..])),
        _ => match Cli::try_parse_from(argv) {
            Ok(cli) => run(&cli),
            Err(e) => usage(&e, args::unknown_verb(&given)),
        },
    };
    ExitCode::from(code)
}

fn run(cli: &Cli) -> u8 {
    let debug = matches!(&cli.verb, Verb::Mount(mount) if mount.debug);
    logging::start(cli.common.verbose, debug, cli.common.quiet);
    ended(perform(cli))
}

/// The exit code, and the message of an error.
fn ended(done: Result<u8>) -> u8 {
    match done {
        Ok(code) => code,
        // Whoever read the output has enough of it: as a process that SIGPIPE ended, and as quiet.
        Err(e) if e.os_code() == Some(rustix::io::Errno::PIPE.raw_os_error()) => exit::of_signal(13),
        Err(e) => {
            say::error(&e);
            exit::code(e.kind())
        }
    }
}

fn perform(cli: &Cli) -> Result<u8> {
    let common = &cli.common;
    match &cli.verb {
        Verb::Mount(given) => daemon::mount(given, common),
        Verb::Umount(given) => unmount::umount(given, common),
        Verb::Sync(given) => fetch::sync(given, common),
        Verb::Commit(given) => unmount::commit(given, common),
        Verb::Status(given) => unmount::status(given),
        Verb::Login(given) => keyring::login(given, common),
        Verb::Logout(given) => keyring::logout(given),
        Verb::List(given) => unmount::list(given),
        Verb::Log(given) => history::log(given),
        Verb::Snapshot(given) => history::snapshot(given),
        Verb::Restore(given) => history::restore(given),
        Verb::Compact(given) => history::compact(given, common),
        Verb::Fat(given) => thin::fat(given, common),
        Verb::Store(given) => thin::store(given, common),
        Verb::Key(given) => keys::key(given),
        Verb::Rekey(given) => keys::rekey(given, common),
        Verb::Run(given) => run::run(given),
        Verb::Overlay(given) => overlay::overlay(given, common),
        Verb::Create(given) => create::create(given),
        Verb::Pack(given) => pack::pack(given, common),
        Verb::Put(given) => upload::put(given, common),
        Verb::Convert(given) => writing::convert(given, common),
        Verb::Find(given) => find::find(given),
        Verb::Index(given) => writing::index(given, common),
        Verb::Prefetch(given) => keep::prefetch(given, common),
        Verb::Pin(given) => keep::pin(given, common),
        Verb::Unpin(given) => keep::unpin(given),
        Verb::Unpack(given) => pack::unpack(given, common),
        Verb::Ls(given) => inspect::ls(given),
        Verb::Cat(given) => inspect::cat(given),
        Verb::Info(given) => inspect::info(given),
        Verb::Check(given) => inspect::check(given, common),
        Verb::Recover(given) => recover::recover(given, common),
        Verb::Parity(given) => parity::parity(given, common),
        Verb::Split(given) => volumes::split(given, common),
        Verb::Join(given) => volumes::join(given, common),
        Verb::Keygen(given) => trust::keygen(given, common),
        Verb::Trust(given) => trust::trust(given, common),
        Verb::Sign(given) => sign::sign(given, common),
        Verb::Verify(given) => sign::verify(given),
        Verb::Generate(given) => generate::generate(given),
    }
}

/// Help and version are answers; everything else is an error in the words of this program.
fn usage(e: &clap::Error, unknown_verb: Option<&str>) -> u8 {
    if !e.use_stderr() {
        let _ = e.print();
        return exit::OK;
    }
    if e.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = e.print();
        return exit::USAGE;
    }
    // It was taken for a source, and the arguments of what was meant do not fit that.
    if let (clap::error::ErrorKind::UnknownArgument, Some(word)) = (e.kind(), unknown_verb) {
        say::problem(&format!("there is no verb {word:?}"), Some("stmount --help, which lists the verbs"));
        return exit::USAGE;
    }
    let text = e.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text).replace("\n  tip: ", "\n  try: ");
    let _ = write!(io::stderr().lock(), "stmount: {text}");
    exit::USAGE
}

fn text_out(text: &str) -> Result<()> {
    io::stdout().lock().write_all(text.as_bytes()).map_err(cannot_print)
}

fn cannot_print(e: io::Error) -> Error {
    Error::io(e, "cannot write to the standard output")
}
