//! The program: parse the command line, run one command, set the exit code.

mod allocator;

use gatepost::cli::{self, Console, Patience};
use gatepost::config::Surroundings;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: allocator::WipingBySize = allocator::WipingBySize;

fn main() -> ExitCode {
    let mut out = io::stdout();
    let mut console = Console {
        is_terminal: out.is_terminal(),
        out: &mut out,
        err: &mut io::stderr(),
        around: Surroundings::of_this_machine(),
        patience: Patience::default(),
    };
    ExitCode::from(cli::execute(std::env::args_os(), &mut console))
}
