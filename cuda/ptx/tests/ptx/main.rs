//! Tests of the interpreter: instructions against plain statements, compiled kernels, bugs, mutants, the command.

mod bugs;
mod cases;
mod floats;
mod flow;
mod harness;
mod ints;
mod kernels;
mod matrix;
mod mutate;
mod mutation;
mod num;
mod ops;
mod ptxi;
mod tensor_cores;
mod text;
mod triton;
mod warps;
