//! Tests of the interpreter: instructions against plain statements, compiled kernels, bugs, mutants, the command.

// A reference is written as the instruction's definition has it.
#![allow(
    clippy::approx_constant,
    clippy::double_comparisons,
    clippy::manual_is_multiple_of,
    clippy::neg_cmp_op_on_partial_ord,
    clippy::precedence,
    clippy::type_complexity
)]

mod bugs;
mod cases;
mod detected;
mod driver;
mod examples;
mod floats;
mod flow;
mod harness;
mod heap;
mod ints;
mod kernels;
mod launch_files;
mod launches;
mod matrices;
mod matrix;
mod mutate;
mod mutation;
mod num;
mod ops;
mod patterns;
mod patterns_strict;
mod ptxi;
mod seeing;
mod tensor_cores;
mod text;
mod threads;
mod time;
mod triton;
mod values;
mod warps;
