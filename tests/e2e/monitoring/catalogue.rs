//! What docs/reference/metrics.md says there is, and what `/metrics` shows.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

/// A metric as it is documented or shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Metric {
    pub(crate) kind: String,
    pub(crate) labels: BTreeSet<String>,
}

/// Metrics by name.
pub(crate) type Catalogue = BTreeMap<String, Metric>;

/// What the table in docs/reference/metrics.md says. Whose labels are the resource's own is left out.
pub(crate) fn documented() -> Result<Catalogue> {
    let page = include_str!("../../../docs/reference/metrics.md");
    let mut all = Catalogue::new();
    for line in page.lines().filter(|line| line.starts_with("| `virtuozo_")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, kind, labels, of, what, _] = cells[..] else {
            anyhow::bail!("not a row of six columns: {line}");
        };
        ensure!(matches!(of, "fleet" | "own") && !what.is_empty(), "{line}");
        let labels = labels
            .split(',')
            .map(|label| label.trim().trim_matches('`').to_owned())
            .filter(|label| !label.is_empty())
            .collect();
        let kind = kind.to_owned();
        let before = all.insert(name.trim_matches('`').to_owned(), Metric { kind, labels });
        ensure!(before.is_none(), "twice: {line}");
    }
    ensure!(all.len() > 20, "the table was not found");
    Ok(all)
}

/// The metrics that only the scheduler that leads tells, by docs/reference/metrics.md.
pub(crate) fn of_the_fleet() -> BTreeSet<&'static str> {
    let page = include_str!("../../../docs/reference/metrics.md");
    page.lines()
        .filter(|line| line.contains("| fleet |"))
        .filter_map(|line| line.split('`').nth(1))
        .collect()
}

/// One line of metrics.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// What a process shows.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    kinds: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

impl Shown {
    /// Reads the text form; insists that it is nothing else.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let mut shown = Self::default();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                if let Some((name, kind)) = comment
                    .strip_prefix("TYPE ")
                    .and_then(|t| t.split_once(' '))
                {
                    shown.kinds.insert(name.to_owned(), kind.to_owned());
                } else {
                    ensure!(comment.starts_with("HELP "), "{line}");
                }
                continue;
            }
            shown
                .samples
                .push(sample(line).with_context(|| line.to_owned())?);
        }
        Ok(shown)
    }

    /// The value of the one line with this name and these labels; none: there is none.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |sample: &&Sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(label, value)| sample.labels.get(*label).is_some_and(|v| v == value))
        };
        let mut found = self.samples.iter().filter(fits);
        let value = found.next()?.value;
        assert!(found.next().is_none(), "{name} {labels:?} is there twice");
        Some(value)
    }

    /// All lines of a name.
    pub(crate) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.name == name)
    }

    /// What there is, in the form of the documentation. The process's own attributes are left out.
    pub(crate) fn catalogue(&self) -> Catalogue {
        let mut all = Catalogue::new();
        for sample in &self.samples {
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|part| {
                    let family = sample.name.strip_suffix(part)?;
                    (self.kinds.get(family)? == "histogram").then_some(family)
                })
                .unwrap_or(&sample.name);
            if name == "target_info" {
                continue;
            }
            let metric = all.entry(name.to_owned()).or_default();
            metric.kind = self.kinds.get(name).cloned().unwrap_or_default();
            let labels = sample.labels.keys().filter(|label| *label != "le");
            metric.labels.extend(labels.cloned());
        }
        all
    }
}

fn sample(line: &str) -> Result<Sample> {
    let (head, value) = line.rsplit_once(' ').context("no value")?;
    let value = value.parse()?;
    let Some((name, labels)) = head.split_once('{') else {
        let (name, labels) = (head.to_owned(), BTreeMap::new());
        return Ok(Sample {
            name,
            labels,
            value,
        });
    };
    let mut rest = labels.strip_suffix('}').context("no closing brace")?;
    let mut labels = BTreeMap::new();
    while let Some((label, after)) = rest.split_once("=\"") {
        // No value in these tests has a quotation mark in it.
        let (value, after) = after.split_once('"').context("no closing quotation mark")?;
        labels.insert(label.to_owned(), value.to_owned());
        rest = after.trim_start_matches(',');
    }
    ensure!(rest.is_empty(), "not labels: {rest}");
    let name = name.to_owned();
    Ok(Sample {
        name,
        labels,
        value,
    })
}
