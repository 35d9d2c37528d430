//! The command `stmount`. Everything it does is in [`stmount::cli`].

fn main() -> std::process::ExitCode {
    stmount::cli::main()
}
