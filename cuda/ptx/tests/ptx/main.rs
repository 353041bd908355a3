//! Tests of the interpreter.

mod matrix;
mod num;
