//! Who is blamed for a panic, and whether every public method of a crate is asked that. The tests of `autograd` use this file too.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::{fs, sync::Once};

thread_local! {
    /// Whether this thread is about to panic on purpose.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<Option<(String, usize)>> = const { RefCell::new(None) };
}

/// A call that was refused: the panic's message, and file and line that it is blamed on.
pub struct Refused {
    pub call: &'static str,
    pub message: String,
    pub file: String,
    pub line: usize,
}

/// Makes a call that must panic.
pub fn refused(call: &'static str, f: impl FnOnce()) -> Refused {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let old = panic::take_hook();
        panic::set_hook(Box::new(move |info| match EXPECTED.get() {
            true => PLACE.set(info.location().map(|l| (l.file().to_string(), l.line() as usize))),
            false => old(info),
        }));
    });
    EXPECTED.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    EXPECTED.set(false);
    let Err(payload) = result else { return Refused { call, message: "silence".into(), file: String::new(), line: 0 } };
    let text = payload.downcast_ref::<String>().cloned().or_else(|| payload.downcast_ref::<&str>().map(|s| s.to_string()));
    let (file, line) = PLACE.take().expect("the hook ran");
    Refused { call, message: text.expect("panics say why"), file, line }
}

/// Adds `CALL => PART, …;` to a list of [`Refused`], and to a list of complaints where a message lacks a part.
macro_rules! refuses {
    (($refused:ident, $wrong:ident) $($call:expr => $($part:literal),*;)*) => {$(
        let refused = crate::blame::refused(stringify!($call), || { let _ = $call; });
        $(if !refused.message.contains($part) {
            $wrong.push(format!("{}: {:?} does not say {:?}", refused.call, refused.message, $part));
        })*
        $refused.push(refused);
    )*};
}
pub(crate) use refuses;

/// A public function of a crate.
pub struct Function {
    /// `Type::name`, or `file.rs: name` where it is none's method.
    pub place: String,
    pub name: String,
    /// Whether panics are blamed on the caller, and documented.
    pub tracked: bool,
    pub documented: bool,
}

/// Every `pub fn` of the public types and modules below a folder, but for folders called `cpu` and modules for tests and kernels.
/// One that a macro declares is there under each name that the macro is given.
pub fn public_functions(folder: &Path) -> Vec<Function> {
    let mut sources = Vec::new();
    collect(folder, &mut sources);
    assert!(sources.len() > 10, "no sources in {}", folder.display());
    let public = |name: &str| {
        let declared = |kind: &str| sources.iter().any(|(_, text)| text.contains(&format!("pub {kind} {name}")));
        declared("struct") || declared("enum")
    };
    sources.iter().flat_map(|(file, text)| functions(file, text, &public)).collect()
}

fn collect(folder: &Path, sources: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "cpu" {
                collect(&path, sources);
            }
        } else if name.ends_with(".rs") && name != "cpu.rs" {
            let text = fs::read_to_string(&path).expect("UTF-8");
            let end = ["pub(crate) mod cpu {", "pub(super) mod cpu {", "#[cfg(test)]"].iter().filter_map(|m| text.find(m)).min();
            sources.push((name, text[..end.unwrap_or(text.len())].to_string()));
        }
    }
}

fn functions(file: &str, text: &str, public: &impl Fn(&str) -> bool) -> Vec<Function> {
    let (mut found, mut owner, mut tracked, mut documented) = (Vec::new(), None, false, false);
    let lines: Vec<&str> = text.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        if let Some(header) = line.strip_prefix("impl") {
            let name = header.split_once("> ").map_or(header, |(_, name)| name).trim_start();
            owner = Some(name.chars().take_while(|c| c.is_alphanumeric()).collect::<String>());
        } else if *line == "}" {
            owner = None;
        }
        let code = line.trim_start();
        tracked |= code == "#[track_caller]";
        documented |= code.starts_with("/// # Panics");
        if let Some(rest) = code.strip_prefix("pub fn ") {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || "_$".contains(*c)).collect();
            let names = if name == "$name" { given(&lines) } else { vec![name] };
            let place = |name: &str| owner.as_ref().map_or_else(|| format!("{file}: {name}"), |owner| format!("{owner}::{name}"));
            let new = |name: String| Function { place: place(&name), name, tracked, documented };
            found.extend(names.into_iter().filter(|_| owner.as_deref().is_none_or(public)).map(new));
        }
        let begins = lines.get(i + 1).is_some_and(|next| next.trim_start().starts_with("///"));
        if !code.starts_with("///") && !code.starts_with("#[") && (begins || code.is_empty() || code.ends_with('{')) {
            (tracked, documented) = (false, false);
        }
    }
    found
}

/// The names in a macro's table: `name => …` or `name: |…|` below their docs.
fn given(lines: &[&str]) -> Vec<String> {
    let below = lines.windows(2).filter(|w| w[0].trim_start().starts_with("///")).map(|w| w[1].trim());
    let named = |line: &str| {
        let (name, rest) = line.split_at(line.find(|c: char| !c.is_alphanumeric() && c != '_')?);
        (!name.is_empty() && (rest.starts_with(" => ") || rest.starts_with(": |"))).then(|| name.to_string())
    };
    below.filter_map(named).collect()
}

/// What is wrong with the blame: a panic that is not put on the line of its call, in a message that begins with the method's name;
/// and a public function that is not `#[track_caller]`, does not document its panics or is not among the calls.
pub struct Walk<'a> {
    pub functions: Vec<Function>,
    pub refused: &'a [Refused],
    /// The file that the calls are in.
    pub file: &'a str,
    pub source: &'a str,
    /// What a call reads like where it is not called by the name that it panics in.
    pub aliases: &'a [(&'a str, &'a str)],
    /// Functions that never panic, by reason.
    pub sound: &'a [(&'a str, &'a [&'a str])],
    /// Functions that could, but that no call can be refused by, by reason.
    pub unreachable: &'a [(&'a str, &'a [&'a str])],
}

impl Walk<'_> {
    pub fn complaints(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut called = BTreeSet::new();
        for Refused { call, message, file, line } in self.refused {
            let name = message.split(':').next().expect("a part");
            let aliases = self.aliases.iter().filter(|a| a.0 == name).map(|a| a.1.to_string());
            let spelt: Vec<String> =
                [format!("{name}("), format!("{name}::<")].into_iter().chain(aliases).filter(|s| call.contains(s)).collect();
            if spelt.is_empty() {
                wrong.push(format!("{call}: panics in another name: {message:?}"));
            }
            let at = self.source.lines().nth(line.wrapping_sub(1)).unwrap_or("");
            if !file.ends_with(self.file) || !spelt.iter().any(|s| at.contains(s)) {
                wrong.push(format!("{call}: {message:?} is blamed on {file}:{line}"));
            }
            let name =
                |s: &String| s.split(|c: char| !c.is_alphanumeric() && c != '_').rfind(|s| !s.is_empty()).map(str::to_string);
            called.extend(spelt.iter().filter_map(name));
        }
        let listed = |lists: &[(&str, &[&str])], place: &str| lists.iter().any(|(_, places)| places.contains(&place));
        for f in &self.functions {
            if listed(self.sound, &f.place) {
                continue;
            }
            if !f.tracked {
                wrong.push(format!("{} is not #[track_caller]", f.place));
            }
            if !f.documented {
                wrong.push(format!("{} has no section on its panics", f.place));
            }
            if !called.contains(&f.name) && !listed(self.unreachable, &f.place) {
                wrong.push(format!("{} is not among the calls that are refused", f.place));
            }
        }
        let listed = self.sound.iter().chain(self.unreachable).flat_map(|(_, places)| *places);
        let gone = listed.filter(|place| !self.functions.iter().any(|f| f.place == **place));
        wrong.extend(gone.map(|place| format!("{place} is listed, but there is no such function")));
        wrong
    }
}
