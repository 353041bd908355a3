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

#[test]
fn an_unknown_instruction_set_is_said_to_be_ignored() {
    let this = std::env::current_exe().unwrap();
    let said = |isa: &str| {
        let args = ["isa::a_product", "--exact", "--nocapture"];
        let output = Command::new(&this).args(args).env("SCRATCHWORK_ISA", isa).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(said("avx3"), "warning: SCRATCHWORK_ISA=avx3 is ignored: expected portable, avx2 or avx512\n");
    assert_eq!(said(""), "warning: SCRATCHWORK_ISA= is ignored: expected portable, avx2 or avx512\n");
    assert_eq!(said("portable"), "");
}

/// Something that needs an instruction set.
#[test]
fn a_product() {
    let x = tensor::Tensor::ones([40, 100], tensor::DType::F32, &tensor::Device::cpu());
    assert_eq!(x.matmul(&x.t()).to_vec::<f32>(), [100.0; 1600]);
}
