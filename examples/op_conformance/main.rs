//! Runs PyTorch's own operator cases, forward and gradients, through [`autograd::Var`].
//!
//! `cargo run --release --example op_conformance -- DIR`: DIR holds `manifest.json` (a list of cases: `id`, `op`, `args`,
//! `kwargs`, `outputs`, `grad_outputs`, `grads`) and `vectors.safetensors` (the tensors behind their keys), in any float dtype.
//! Prints one JSON line; the exit code is 0 only if there are cases and every one passes.

mod suite;

use clap::Parser;
use scratchwork::grpo::console::{exit, finish, say};
use std::path::PathBuf;
use std::process::ExitCode;
use suite::{ORDER, ROUNDING, Suite, Verdict, tolerance};
use tensor::DType;

#[derive(Parser)]
#[command(about = "Runs PyTorch's operator cases, forward and gradients; prints one JSON line")]
struct Args {
    /// Folder with manifest.json and vectors.safetensors.
    dir: PathBuf,
    /// Run only the cases whose id starts with this.
    #[arg(long, default_value = "")]
    only: String,
    /// Where to compute: cpu, cuda, cuda:NUMBER, interpreted or interpreted:SEED.
    #[arg(long, default_value = "cpu")]
    device: String,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let device = match scratchwork::device(&args.device) {
        Ok(device) => device,
        Err(e) => return exit(Err::<String, _>(format!("--device {e}"))),
    };
    let suite = match Suite::load(&args.dir, &device) {
        Ok(suite) => suite,
        Err(e) => return exit(Err::<String, _>(e)),
    };
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let (rtol, atol) = tolerance(dtype);
        say(format_args!("tolerance {dtype}: rtol {rtol:e}, atol {atol:e} (torch.testing.assert_close)"));
    }
    say(format_args!(
        "or at most {ORDER} times as far from the result in f64 as PyTorch's, or as the tolerance, where PyTorch's is at most"
    ));
    say(format_args!(
        "{ROUNDING} tolerances from it (both carry rounding); of half types, at least as near as PyTorch's, wherever"
    ));
    say("that is; such cases are named");
    say("tolerance of integers and bool: exact; positions (argmax, sort, topk) by the values they point at");

    let (mut passed, mut in_f64, mut failed, mut unsupported) = (0, vec![], vec![], vec![]);
    let cases: Vec<_> = suite.cases().filter(|c| c.id.starts_with(&args.only)).collect();
    for case in &cases {
        match suite.run(case) {
            Verdict::Passed => passed += 1,
            Verdict::PassedInF64(why) => {
                say(format_args!("{}: as near to the result in f64 as PyTorch's: {why}", case.id));
                in_f64.push(case.id.as_str());
                passed += 1;
            }
            Verdict::Failed(why) => {
                say(format_args!("{}: {why}", case.id));
                failed.push(case.id.as_str());
            }
            Verdict::Unsupported(why) => {
                say(format_args!("{}: unsupported: {why}", case.id));
                unsupported.push(case.id.as_str());
            }
        }
    }
    let line = serde_json::json!({
        "cases": cases.len(), "passed": passed, "failed": failed, "unsupported": unsupported, "passed_in_f64": in_f64,
    });
    let code = finish(line);
    if passed == cases.len() && passed > 0 { code } else { ExitCode::FAILURE }
}
