//! The examples as their users meet them, binaries that are run from a shell; and what holds between layers that know nothing of
//! each other.

mod devices;
mod flagship;
mod hostile;
#[cfg(target_os = "linux")]
mod output;
mod trust;

use std::process::Command;

/// An example's binary, which `cargo test` has built beside this one.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().with_file_name("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(program.is_file(), "{} is not built: `cargo build --example {name}` first", program.display());
    Command::new(program)
}
