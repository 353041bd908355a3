//! Every form of `forms.txt` is read or refused as recorded there, and as `ptxas` reads or refuses it.
//!
//! The harness is this file's own, so that the comparison with the assembler is reported as ignored where there is none.
//! `UPDATE_FORMS=1 cargo test -p scratchwork-ptx --test forms` writes `docs/forms.md` anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ptx::Module;

/// What may be said of a form.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// The assembler and the interpreter take it.
    Taken,
    /// Both refuse it.
    Refused,
    /// The interpreter alone refuses it.
    Lacking,
    /// The assembler alone refuses it.
    Allowed,
    /// Both take it, the assembler only where it knows a later ISA than 8.4.
    Newer,
}
use Verdict::{Allowed, Lacking, Newer, Refused, Taken};

struct Form {
    line: usize,
    section: String,
    verdict: Verdict,
    text: String,
    reason: String,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn forms() -> Vec<Form> {
    let path = folder().join("tests/forms/forms.txt");
    let file = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut section = String::new();
    let mut forms = Vec::new();
    for (i, line) in file.lines().enumerate() {
        if let Some(name) = line.strip_prefix("## ") {
            section = name.into();
        }
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let mut parts = line.splitn(3, " | ");
        let (word, text, reason) = (parts.next().unwrap(), parts.next(), parts.next());
        let verdict = match word {
            "taken" => Taken,
            "refused" => Refused,
            "lacking" => Lacking,
            "allowed" => Allowed,
            "newer" => Newer,
            _ => panic!("forms.txt:{}: unknown verdict `{word}`", i + 1),
        };
        assert_eq!(matches!(verdict, Lacking | Allowed), reason.is_some(), "forms.txt:{}: a reason", i + 1);
        forms.push(Form {
            line: i + 1,
            section: section.clone(),
            verdict,
            text: text.unwrap_or_else(|| panic!("forms.txt:{}: no form", i + 1)).into(),
            reason: reason.unwrap_or("").into(),
        });
    }
    forms
}

/// Lines before the first form.
const HEAD: usize = 9;

/// A module with a kernel for each form, a line each behind [`HEAD`] lines.
fn module<'f>(version: &str, forms: impl IntoIterator<Item = &'f Form>) -> String {
    let mut text = format!(
        ".version {version}\n.target sm_90a\n.address_size 64\n\
         .shared .align 128 .b8 s[256];\n.global .align 16 .b8 g[256];\n.const .align 16 .b8 c[64];\n\
         .func fn() {{ ret; }}\n\
         .func (.param .b32 r) fn1(.param .b32 a) {{ .reg .b32 %t; ld.param.b32 %t, [a]; st.param.b32 [r], %t; ret; }}\n\
         .func (.reg .b32 r) fnr(.reg .b32 a) {{ mov.b32 r, a; ret; }}\n"
    );
    for (i, form) in forms.into_iter().enumerate() {
        let name = if i == 0 { "k".into() } else { format!("k{i}") };
        let _ = writeln!(
            text,
            ".visible .entry {name}(.param .align 128 .b8 par[128]) {{ \
             .reg .b8 %b<4>; .reg .b16 %h<24>; .reg .b32 %r<64>; .reg .f32 %f<136>; .reg .b64 %rd<12>; .reg .f64 %fd<12>; \
             .reg .pred %p<4>; .reg .b128 %q<4>; .reg .v2 .f32 %v<4>; .reg .v4 .b32 %w<2>; .local .align 8 .b8 l[16]; \
             {} ret; }}",
            form.text
        );
    }
    text
}

/// What is recorded of the interpreter is so, and a refusal names its line in one sentence.
fn as_recorded() -> Result<(), String> {
    let mut wrong = String::new();
    for form in forms() {
        let result = Module::parse("form.ptx", &module("9.0", [&form])).err().map(|e| e.to_string());
        let takes = matches!(form.verdict, Taken | Allowed | Newer);
        match result {
            None if takes => {}
            Some(message) if !takes => {
                if message.lines().count() != 1 || !message.starts_with(&format!("form.ptx:{}: ", HEAD + 1)) {
                    let _ = writeln!(wrong, "forms.txt:{}: `{}` is refused by: {message}", form.line, form.text);
                }
            }
            other => {
                let _ = writeln!(wrong, "forms.txt:{}: {:?}, but `{}`: {other:?}", form.line, form.verdict, form.text);
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// A form shown in a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn document(forms: &[Form]) -> String {
    let count = |v: Verdict| forms.iter().filter(|f| f.verdict == v).count();
    let mut text = format!(
        "# What the interpreter reads\n\n\
         Written by `tests/forms` from `tests/forms/forms.txt`; not to be changed by hand. {} forms of instructions for sm_90a, each held \
         against ptxas of CUDA 12.4: {} are taken by both and {} by assemblers of later versions of the ISA too, {} are refused by both, \
         {} are lacking here and refused by name, and {} are read although the assembler refuses them. Modifiers may stand in any order \
         that the assembler takes; the order shown is the manual's. The registers are named by their types: `%h` 16 bits, `%r` 32, \
         `%rd` 64, `%f` and `%fd` floats, `%p` predicates, `%q` 128 bits, `%v` and `%w` vectors; `g`, `s`, `c`, `l` and `par` are \
         variables of the spaces global, shared, const, local and param.\n",
        forms.len(),
        count(Taken),
        count(Newer),
        count(Refused),
        count(Lacking),
        count(Allowed)
    );
    let mut section = "";
    for form in forms {
        if form.section != section {
            section = &form.section;
            let _ = write!(text, "\n## {section}\n\n| form | |\n|---|---|\n");
        }
        let said = match form.verdict {
            Taken => "taken".into(),
            Newer => "taken (later ISA)".into(),
            Refused => "refused, as by the assembler".into(),
            Lacking => format!("**lacking**: {}", form.reason),
            Allowed => format!("read, though the assembler refuses it: {}", form.reason),
        };
        let _ = writeln!(text, "| `{}` | {said} |", cell(&form.text));
    }
    text
}

/// The table in the docs is what the forms give.
fn documented() -> Result<(), String> {
    let (path, want) = (folder().join("docs/forms.md"), document(&forms()));
    if std::env::var_os("UPDATE_FORMS").is_some() {
        std::fs::create_dir_all(folder().join("docs")).and_then(|()| std::fs::write(&path, &want)).map_err(|e| e.to_string())?;
    }
    match std::fs::read_to_string(&path) {
        Ok(text) if text == want => Ok(()),
        Ok(_) => Err("docs/forms.md is not what forms.txt gives: run with UPDATE_FORMS=1".into()),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}

/// Whether `ptxas` takes the text, and what it says.
fn assemble(ptxas: &Path, text: &str, number: usize) -> (bool, String) {
    let file = std::env::temp_dir().join(format!("form-{}-{number}.ptx", std::process::id()));
    std::fs::write(&file, text).expect("the folder for temporary files can be written");
    let output = Command::new(ptxas).args(["-arch=sm_90a", "-O0", "-o", "/dev/null"]).arg(&file).output();
    let _ = std::fs::remove_file(&file);
    let output = output.expect("ptxas runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    (output.status.success(), said)
}

/// What is recorded of the assembler is so.
fn as_assembled(ptxas: &Path) -> Result<(), String> {
    let forms = forms();
    let (taken, refused): (Vec<&Form>, Vec<&Form>) = forms.iter().partition(|f| matches!(f.verdict, Taken | Lacking));
    let (fine, said) = assemble(ptxas, &module("8.4", taken.iter().copied()), 0);
    if !fine {
        return Err(format!("of the forms that are taken (form n in line n + {HEAD}):\n{said}"));
    }
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(String::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(form) = refused.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if assemble(ptxas, &module("8.4", [*form]), form.line).0 {
                        let _ = writeln!(wrong.lock().unwrap(), "forms.txt:{}: ptxas takes `{}`", form.line, form.text);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// A test: nothing where it cannot be run.
type Test<'a> = (&'a str, &'a dyn Fn() -> Option<Result<(), String>>);

fn main() -> ExitCode {
    let ptxas = folder().join("../../target/toolchain/nvidia/cuda_nvcc/bin/ptxas");
    let tests: [Test<'_>; 3] = [
        ("forms_are_read_or_refused_as_recorded", &|| Some(as_recorded())),
        ("the_table_in_the_docs_is_fresh", &|| Some(documented())),
        ("forms_are_read_or_refused_as_by_ptxas", &|| ptxas.exists().then(|| as_assembled(&ptxas))),
    ];
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let chosen = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str()));
    if arguments.iter().any(|a| a == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let mut failed = false;
    for (name, test) in tests.iter().filter(|(name, _)| chosen(name)) {
        match test() {
            None => println!("test {name} ... ignored, no ptxas under target/toolchain (cargo xtask ptx installs it)"),
            Some(Ok(())) => println!("test {name} ... ok"),
            Some(Err(message)) => {
                failed = true;
                println!("test {name} ... FAILED\n{message}");
            }
        }
    }
    if failed { ExitCode::from(101) } else { ExitCode::SUCCESS }
}
