use super::*;

fn step(n: usize) -> Record {
    let values = Values::new().with("reward", 0.25).with("expert_load/1", 1.5).with("failed_checks", 3.0).with("seconds", 1.0);
    Record::Step(StepMetrics { stage: "r1_zero".into(), step: n, values })
}

fn eval() -> Record {
    let mut scores = Scores::default();
    scores.set("pass@1", Score { value: 0.5, low: 0.4, high: 0.6 });
    scores.set_value("format", 0.9);
    scores.behaviour.set("attempts", 2.0);
    Record::Eval(EvalMetrics {
        stage: "base".into(),
        step: 20,
        task: "countdown".into(),
        problems: 8,
        samples: 16,
        max_completion_length: 120,
        tokens: 99,
        seconds: 1.5,
        answers: vec![Answer { question: "1,2:3".into(), text: "1+2=3?3v".into(), correct: true, tokens: 8 }],
        scores,
    })
}

/// A path of this test's own, gone with the guard.
struct Temp(PathBuf);
impl Temp {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("grpo-metrics-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
    fn path(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }
}
impl Drop for Temp {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn values_keep_their_order_and_names_without_a_value_are_not_there() {
    let mut values = Values::new().with("b", 2.0).with("a", 1.0).with("c", None);
    values.set("b", 3.0);
    let line = serde_json::to_string(&values).unwrap();
    assert_eq!(line, r#"{"b":3.0,"a":1.0}"#);
    assert_eq!(serde_json::from_str::<Values>(&line).unwrap(), values);
    assert_eq!((values.get("b"), values.get("c")), (Some(3.0), None));
    let Record::Step(step) = step(1) else { panic!("a step") };
    let line = serde_json::to_string(&Record::Step(step.clone())).unwrap();
    assert!(line.starts_with(r#"{"event":"step","stage":"r1_zero","step":1,"reward":0.25,"#), "{line}");
    let Record::Step(read) = serde_json::from_str(&line).unwrap() else { panic!("a step") };
    assert_eq!((read.values.iter().collect::<Vec<_>>(), read.busiest_expert()), (step.values.iter().collect(), Some(1.5)));
}

#[test]
fn lines_have_the_promised_keys() {
    let line = serde_json::to_value(eval()).unwrap();
    assert_eq!((&line["event"], &line["pass@1"], &line["ci"]["pass@1"][1]), (&"eval".into(), &0.5.into(), &0.6.into()));
    assert_eq!(serde_json::to_value(step(1)).unwrap()["failed_checks"], 3.0);
}

#[test]
fn a_killed_run_goes_on_where_its_state_was_saved() {
    let temp = Temp::new("resume");
    let mut w = MetricsWriter::create(&temp.path()).unwrap();
    let mut at_three_records = w.written();
    for record in [step(1), eval(), step(2), step(3)] {
        w.write(&record).unwrap();
        if w.written().lines == 4 {
            at_three_records = w.written();
        }
    }
    // Killed while writing.
    let mut bytes = fs::read(temp.path()).unwrap();
    bytes.extend(br#"{"event":"step","sta"#);
    fs::write(temp.path(), &bytes).unwrap();
    assert_eq!(read(&temp.path()).unwrap(), [step(1), eval(), step(2), step(3)]);

    let mut w = MetricsWriter::resume(&temp.path(), at_three_records).unwrap();
    w.write(&step(3)).unwrap();
    let all = w.written();
    assert_eq!(all.lines, 5);
    assert_eq!(read(&temp.path()).unwrap(), [step(1), eval(), step(2), step(3)]);
    let e = MetricsWriter::resume(&temp.path(), Written { lines: 9, ..all }).unwrap_err().to_string();
    assert!(e.contains("has 5 lines") && e.contains("after 9"), "{e}");

    // Another digit, two lines in another order, a line that was put in: none is taken for what was written.
    let text = fs::read_to_string(temp.path()).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let changed = [
        text.replacen("\"step\":2", "\"step\":1", 1),
        [lines[0], lines[2], lines[1], lines[3], lines[4]].concat(),
        "\n".to_owned() + &text,
    ];
    for changed in changed {
        assert_ne!(changed, text);
        fs::write(temp.path(), &changed).unwrap();
        let e = MetricsWriter::resume(&temp.path(), all).unwrap_err().to_string();
        assert!(e.contains("not those that were written"), "{e}");
        assert_eq!(fs::read_to_string(temp.path()).unwrap(), changed, "nothing is done to it");
    }
}

#[test]
fn values_that_are_not_finite_are_refused_by_name() {
    let temp = Temp::new("finite");
    let mut w = MetricsWriter::create(&temp.path()).unwrap();
    let broken = |name: &str, value: f64| {
        let values = Values::new().with("loss", 1.0).with(name, value);
        Record::Step(StepMetrics { stage: "r1_zero".into(), step: 7, values })
    };
    for (record, key) in [
        (broken("loss", f64::NAN), "loss is NaN at step 7 of stage r1_zero"),
        (broken("kl", f64::INFINITY), "kl is inf"),
        (broken("length_wrong", f64::NAN), "length_wrong is NaN"),
    ] {
        let e = w.write(&record).unwrap_err().to_string();
        assert!(e.contains(key), "{key:?} is not in {e:?}");
    }
    assert_eq!(read(&temp.path()).unwrap(), []);
}

#[test]
fn a_file_of_another_format_is_refused_and_an_older_one_is_read() {
    let temp = Temp::new("format");
    MetricsWriter::create(&temp.path()).unwrap().write(&eval()).unwrap();
    let text = fs::read_to_string(temp.path()).unwrap();
    let (head, rest) = text.split_once('\n').unwrap();
    assert_eq!(head, r#"{"event":"format","format":2}"#);
    fs::write(temp.path(), rest).unwrap();
    assert_eq!(read(&temp.path()).unwrap(), [eval()]);
    // It may hold records that are not known here.
    fs::write(temp.path(), head.replace("\":2", "\":3") + "\n{\"event\":\"upload\"}\n").unwrap();
    let e = read(&temp.path()).unwrap_err().to_string();
    assert!(e.contains("metrics.jsonl, line 1: it has the format 3, this program reads format 2"), "{e}");
}

#[test]
fn a_broken_line_is_named() {
    let temp = Temp::new("broken");
    fs::write(temp.path(), "{\"event\":\"step\"}\n").unwrap();
    let e = read(&temp.path()).unwrap_err().to_string();
    assert!(e.contains("line 1") && e.contains("stage"), "{e}");
}
