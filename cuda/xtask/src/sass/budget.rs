//! Budgets: what a source promises of its kernels' machine code, as `// sass: registers <= 168, hgmma > 0`.

use super::Kernel;

/// One line of a source.
#[derive(Debug, PartialEq)]
pub struct Budget {
    /// How the names begin of those that it is for; empty for all.
    kernels: String,
    terms: Vec<Term>,
}

/// Field, comparison, number.
#[derive(Debug, PartialEq)]
struct Term {
    field: String,
    comparison: Comparison,
    number: u32,
}

/// As it is written, and what it means.
type Comparison = (&'static str, fn(&u32, &u32) -> bool);

const COMPARISONS: [Comparison; 5] = [("<=", u32::le), (">=", u32::ge), ("<", u32::lt), (">", u32::gt), ("=", u32::eq)];

impl Budget {
    /// All that a source states.
    pub fn all(source: &str) -> Result<Vec<Budget>, String> {
        source.lines().filter_map(|line| line.strip_prefix("// sass")).map(Budget::parse).collect()
    }

    fn parse(line: &str) -> Result<Budget, String> {
        let wrong = || format!("`// sass{line}`: expected `// sass [KERNEL]: FIELD <= NUMBER, …`");
        let (kernels, terms) = line.split_once(':').ok_or_else(wrong)?;
        let term = |text: &str| {
            let comparison = COMPARISONS.iter().find(|(sign, _)| text.contains(sign))?;
            let (field, number) = text.split_once(comparison.0)?;
            Some(Term { field: field.trim().to_string(), comparison: *comparison, number: number.trim().parse().ok()? })
        };
        let terms: Option<Vec<Term>> = terms.split(',').map(term).collect();
        Ok(Budget { kernels: kernels.trim().to_string(), terms: terms.ok_or_else(wrong)? })
    }

    /// What is not as it says, a sentence each.
    pub fn broken(&self, kernels: &[Kernel]) -> Vec<String> {
        let mine: Vec<&Kernel> = kernels.iter().filter(|k| k.name.starts_with(&self.kernels)).collect();
        if mine.is_empty() {
            return vec![format!("a budget is for {:?}, and no kernel's name begins so", self.kernels)];
        }
        let broken = |kernel: &&Kernel| -> Vec<String> {
            let term = |t: &Term| match kernel.get(&t.field) {
                Some(value) if t.comparison.1(&value, &t.number) => None,
                Some(value) => Some(format!("{} has {} = {value}, not {} {}", kernel.name, t.field, t.comparison.0, t.number)),
                None => Some(format!("a budget names {:?}, which is no field", t.field)),
            };
            self.terms.iter().filter_map(term).collect()
        };
        mine.iter().flat_map(broken).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, Kernel};

    fn kernel(name: &str, registers: u32) -> Kernel {
        Kernel { name: name.into(), fields: vec![("registers".into(), registers), ("loop.bar".into(), 2)] }
    }

    #[test]
    fn a_broken_budget_is_named() {
        let source = "// A head.\n// sass: registers <= 168, loop.bar = 2\n// sass small: registers < 40\nint x;\n";
        let budgets = Budget::all(source).unwrap();
        let broken = |kernels: &[Kernel]| budgets.iter().flat_map(|b| b.broken(kernels)).collect::<Vec<_>>();
        assert!(broken(&[kernel("small_1", 39), kernel("large", 168)]).is_empty());
        assert_eq!(broken(&[kernel("small_1", 40), kernel("large", 169)]).len(), 2);
        assert_eq!(broken(&[kernel("large", 1)]), ["a budget is for \"small\", and no kernel's name begins so"]);
    }

    #[test]
    fn a_budget_that_says_nothing_is_refused() {
        assert!(Budget::all("// sass: registers\n").is_err());
        assert!(Budget::all("// sass registers <= 1\n").is_err());
        assert!(Budget::all("// sass: registers <= many\n").is_err());
        let budget = &Budget::all("// sass: hgma > 0\n").unwrap()[0];
        assert_eq!(budget.broken(&[kernel("k", 1)]), ["a budget names \"hgma\", which is no field"]);
    }
}
