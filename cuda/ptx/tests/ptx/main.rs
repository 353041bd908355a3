//! Tests of the interpreter.

mod matrix;
mod num;
mod tensor_cores;
