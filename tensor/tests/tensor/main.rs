//! The tests of the `tensor` crate that see it from outside.

mod blame;
mod casts;
mod checker;
mod determinism;
mod display;
mod fused;
mod half;
mod index;
mod isa;
mod misuse;
mod promotion;
mod specs;
mod views;
