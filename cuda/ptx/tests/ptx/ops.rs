//! One instruction at a time: a row of a table says its text and, in plain wide arithmetic, what it computes. Proptest draws
//! operands; one kernel a row runs them, 64 at a time.

use std::sync::Arc;

use proptest::prelude::*;
use ptx::{Gpu, Launch, Module, Options};

/// Types of operands, by the letter that a row uses: `h` 16 bits, `w` 32, `d` 64, `p` a predicate.
#[derive(Clone, Copy, PartialEq)]
pub enum Ty {
    H,
    W,
    D,
    P,
}

impl Ty {
    fn of(c: char) -> Ty {
        match c {
            'h' => Ty::H,
            'w' => Ty::W,
            'd' => Ty::D,
            'p' => Ty::P,
            _ => panic!("no type `{c}`"),
        }
    }

    fn letter(self) -> char {
        match self {
            Ty::H => 'h',
            Ty::W => 'w',
            Ty::D => 'd',
            Ty::P => 'p',
        }
    }

    fn mask(self) -> u64 {
        match self {
            Ty::H => 0xffff,
            Ty::W => 0xffff_ffff,
            Ty::D => u64::MAX,
            Ty::P => 1,
        }
    }
}

/// A row: the instruction with `$0`, `$1`, … for its registers; the types of the results, then of the operands; what it
/// computes. Several statements may be given.
pub struct Row {
    pub text: &'static str,
    pub shape: &'static str,
    pub reference: Reference,
}

/// What a result must be.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// These bits.
    Bits(u64),
    /// An f32 this near: the value, and the error allowed, relative and absolute.
    Near(f64, f64, f64),
    /// Whatever the machine likes.
    Anything,
}

impl Expect {
    fn accepts(self, got: u64, mask: u64) -> bool {
        match self {
            Expect::Bits(want) => got == want & mask,
            Expect::Near(want, relative, absolute) => {
                let got = f64::from(f32::from_bits(got as u32));
                got == want || (got.is_nan() && want.is_nan()) || (got - want).abs() <= relative * want.abs() + absolute
            }
            Expect::Anything => true,
        }
    }
}

/// Results of operands.
pub type Reference = Box<dyn Fn(&[u64]) -> Vec<Expect>>;

impl Row {
    /// A row with one result.
    pub fn new(text: &'static str, shape: &'static str, f: impl Fn(&[u64]) -> u64 + 'static) -> Row {
        Row { text, shape, reference: Box::new(move |x| vec![Expect::Bits(f(x))]) }
    }

    /// A row whose one result is an f32 near the reference's.
    pub fn near(text: &'static str, shape: &'static str, f: impl Fn(&[u64]) -> Expect + 'static) -> Row {
        Row { text, shape, reference: Box::new(move |x| vec![f(x)]) }
    }

    /// A row with one result that may be anything for some operands.
    pub fn partly(text: &'static str, shape: &'static str, f: impl Fn(&[u64]) -> Option<u64> + 'static) -> Row {
        Row { text, shape, reference: Box::new(move |x| vec![f(x).map_or(Expect::Anything, Expect::Bits)]) }
    }

    /// A row with several results.
    pub fn many(text: &'static str, shape: &'static str, f: impl Fn(&[u64]) -> Vec<u64> + 'static) -> Row {
        Row { text, shape, reference: Box::new(move |x| f(x).into_iter().map(Expect::Bits).collect()) }
    }

    fn types(&self) -> (Vec<Ty>, Vec<Ty>) {
        let (d, s) = self.shape.split_once('=').expect("results = operands");
        (d.chars().map(Ty::of).collect(), s.chars().map(Ty::of).collect())
    }

    fn kernel(&self, name: usize) -> String {
        let (results, operands) = self.types();
        let mut body = String::new();
        let mut text = self.text.to_string();
        for (i, ty) in results.iter().chain(&operands).enumerate().collect::<Vec<_>>().into_iter().rev() {
            text = text.replace(&format!("${i}"), &format!("%{}{i}", ty.letter()));
        }
        for (k, ty) in operands.iter().enumerate() {
            let i = results.len() + k;
            let load = format!("[%in+{}]", 8 * k);
            body += &match ty {
                Ty::H => format!("ld.global.b16 %h{i}, {load};\n"),
                Ty::W => format!("ld.global.b32 %w{i}, {load};\n"),
                Ty::D => format!("ld.global.b64 %d{i}, {load};\n"),
                Ty::P => format!("ld.global.b32 %t, {load};\n setp.ne.u32 %p{i}, %t, 0;\n"),
            };
        }
        body += &text;
        body.push('\n');
        for (i, ty) in results.iter().enumerate() {
            let store = format!("[%out+{}]", 8 * i);
            body += &match ty {
                Ty::H => format!("st.global.b16 {store}, %h{i};\n"),
                Ty::W => format!("st.global.b32 {store}, %w{i};\n"),
                Ty::D => format!("st.global.b64 {store}, %d{i};\n"),
                Ty::P => format!("selp.b32 %t, 1, 0, %p{i};\n st.global.b32 {store}, %t;\n"),
            };
        }
        format!(
            ".visible .entry k{name}(.param .u64 in, .param .u64 out) {{
             .reg .b16 %h<12>; .reg .b32 %w<12>; .reg .b64 %d<12>; .reg .pred %p<12>;
             .reg .b32 %t; .reg .b64 %in, %out, %o;
             ld.param.u64 %in, [in]; ld.param.u64 %out, [out];
             mov.u32 %t, %tid.x; mul.wide.u32 %o, %t, {STRIDE};
             add.u64 %in, %in, %o; add.u64 %out, %out, %o;
             {body}
             ret; }}\n"
        )
    }
}

const STRIDE: usize = 64;
const THREADS: usize = 64;

/// All rows of a table, loaded.
pub struct Table {
    rows: Vec<Row>,
    module: Arc<Module>,
}

impl Table {
    /// Parses the rows' kernels.
    pub fn new(rows: Vec<Row>) -> Table {
        let head = ".version 8.4\n.target sm_90a\n.address_size 64\n".to_string();
        let source = rows.iter().enumerate().fold(head, |s, (i, r)| s + &r.kernel(i));
        let module = Module::parse("table", &source).unwrap_or_else(|e| panic!("{e}\n{source}"));
        Table { rows, module: Arc::new(module) }
    }

    /// Checks every row on the operands: 64 threads, each with its own four (or more) words.
    pub fn check(&self, operands: &[u64]) -> Result<(), TestCaseError> {
        let mut gpu = Gpu::new(Options { counters: false, ..Options::default() });
        let module = gpu.load(self.module.clone()).unwrap();
        for (i, row) in self.rows.iter().enumerate() {
            let (results, sources) = row.types();
            let (a, c) = (gpu.alloc((STRIDE * THREADS) as u64).unwrap(), gpu.alloc((STRIDE * THREADS) as u64).unwrap());
            let value = |thread: usize, k: usize| operands[(thread * 5 + k) % operands.len()] & sources[k].mask();
            for t in 0..THREADS {
                for k in 0..sources.len() {
                    gpu.write(a + (t * STRIDE + 8 * k) as u64, &value(t, k).to_le_bytes()).unwrap();
                }
            }
            gpu.fill(c, 0, (STRIDE * THREADS) as u64).unwrap();
            let report = gpu.launch(&Launch::new(module, format!("k{i}")).block(THREADS as u32).args((a, c)));
            report.clean().map_err(|e| TestCaseError::fail(format!("{}: {e}", row.text)))?;
            let out = gpu.read(c, STRIDE * THREADS).unwrap();
            for t in 0..THREADS {
                let x: Vec<u64> = (0..sources.len()).map(|k| value(t, k)).collect();
                for (j, want) in (row.reference)(&x).into_iter().enumerate() {
                    let at = t * STRIDE + 8 * j;
                    let got = u64::from_le_bytes(out[at..at + 8].try_into().unwrap());
                    let ok = want.accepts(got, results[j].mask());
                    prop_assert!(ok, "{} of {:x?}: result {} is {:#x}, not {:x?}", row.text, x, j, got, want);
                }
            }
            gpu.free(a).unwrap();
            gpu.free(c).unwrap();
        }
        Ok(())
    }
}

/// 64-bit words in which the edges of every width are frequent.
pub fn words() -> impl Strategy<Value = Vec<u64>> {
    let edge = prop::sample::select(vec![
        0_u64,
        1,
        2,
        31,
        32,
        33,
        63,
        64,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0xffff,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        0x1_0000_0000,
        i64::MAX as u64,
        i64::MIN as u64,
        u64::MAX,
    ]);
    let small = 0..70_u64;
    let one = prop_oneof![3 => any::<u64>(), 2 => edge, 1 => small, 1 => any::<u32>().prop_map(u64::from)];
    prop::collection::vec(one, 331)
}

/// Runs `cases` draws of operands through a table.
pub fn run(cases: u32, rows: Vec<Row>, operands: impl Strategy<Value = Vec<u64>>) {
    let table = Table::new(rows);
    let config = ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    if let Err(e) = runner.run(&operands, |x| table.check(&x)) {
        panic!("{e}");
    }
}
