//! Tests of the interpreter.

mod floats;
mod flow;
mod ints;
mod matrix;
mod num;
mod ops;
mod tensor_cores;
mod text;
mod warps;
