//! The program: hand the arguments to the command line and its answer to the shell. Nothing else.

/// Arrow buffers come and go in megabytes; mimalloc gives them back to the system, glibc keeps them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    volary::cli::main().into()
}
