//! `cargo xtask`: chores of the repository that need a tool from outside.
//!
//! `cargo xtask ptx` regenerates the PTX that is committed beside the CUDA sources, `cargo xtask sass` reads the machine code that
//! the assembler makes of it, and `cargo xtask pack` gathers programs for a machine with a card. Nothing else in the workspace needs
//! a CUDA toolkit, neither to build nor to test nor to run. `cargo xtask foretold` holds foretold times against published ones.

mod foretold;
mod nvcc;
mod pack;
mod ptx;
mod ptxas;
mod sass;
mod toolchain;

use std::process::ExitCode;

const HELP: &str = "\
Chores of the repository.

Usage: cargo xtask ptx [--check] [NAME...]
       cargo xtask sass [--json] [--check] [NAME...]
       cargo xtask nvcc -- ARGS...
       cargo xtask pack [FOLDER]
       cargo xtask foretold --points FOLDER [--check | --only NAME]

ptx compiles every cuda/kernels/**/*.cu and cuda/ptx/tests/kernels/*.cu to a .ptx beside it, with NVRTC 12.4 (PTX ISA 8.4, which
drivers since 550 load), then assembles it with ptxas for sm_90a and prints what each kernel needs. With NAMEs, only the
sources whose path contains one of them.

  --check   write nothing: fail where a committed .ptx is not what its source gives

It fails, too, on a register spill. Needs python3 with pip: the compiler comes from PyPI (124 MB) into target/toolchain on
first use.

Lines of a .cu that steer this command:
  // arch: sm_90a             the target; sm_80 where it is not given
  // spills: ENTRY: reason    lets that kernel spill (its name, as in the .ptx)
  // ptxas: TEXT: reason      lets ptxas complain of something (for `sass`)

sass assembles every committed .ptx, or those whose path contains a NAME, disassembles it with nvdisasm (from PyPI, 6 MB) and
prints what each kernel is made of: registers, spills, stack and shared memory, and how many of the instructions that
decide its speed it has, in all and in its main loop (the innermost loop with most products). A warning of ptxas is an error,
and so is its remark that products of a warpgroup were serialized.

  --json    a line of JSON per kernel
  --check   fail where a kernel breaks a budget that its .cu states, or spills without an excuse

  // sass: registers <= 168, hgmma > 0, loop.bar = 0     a budget of every kernel of the file
  // sass matmul_64: registers <= 128                    of those whose name begins so

nvcc runs NVIDIA's compiler 13 with its headers and the shared runtime, from PyPI into target/toolchain13 on first use (300 MB); it needs
g++. The programs that test `ptxi exec` are compiled with it.

pack builds tests, benches and examples without symbols and puts them with their fixtures and a script into FOLDER (`pack`),
to be carried to a machine that has a card and its driver but neither this repository nor a toolchain.

foretold times the public kernels of benches/foretold/points.toml with `ptxi time`, whose launch files are FOLDER/NAME/launch.json,
and writes benches/results/foretold.md: foretold beside published speeds, with errors.

  --check       write nothing: fail where the table is not what the model gives
  --only NAME   only points whose name contains this; the table goes to standard output
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.is_empty() || args.iter().take_while(|a| *a != "--").any(|a| a == "--help" || a == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let result = match args[0].as_str() {
        "nvcc" => nvcc::run(&args[1..]),
        "foretold" => foretold::run(&args[1..]),
        "ptx" => ptx::run(&args[1..]),
        "sass" => sass::run(&args[1..]),
        "pack" => pack::run(&args[1..]),
        other => Err(format!("no task is called {other:?}; see `cargo xtask --help`")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
