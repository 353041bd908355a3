//! The f32 specifications under every instruction set: the choice is made once a process, so each gets its own.

use std::process::Command;

#[test]
fn f32_holds_under_every_instruction_set() {
    let this = std::env::current_exe().unwrap();
    for isa in ["portable", "avx2"] {
        let output = Command::new(&this).args(["specs::f32", "--exact"]).env("SCRATCHWORK_ISA", isa).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{isa}: {text}");
    }
}
