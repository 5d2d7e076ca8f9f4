//! Spans as somebody saw them, and the tree that they make.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result, ensure};

/// A span as it arrived. A root has no parent: an empty text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) began_ns: u64,
    pub(crate) ended_ns: u64,
    /// The process that sent it.
    pub(crate) process: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) events: Vec<Event>,
    /// The spans it is linked to.
    pub(crate) links: Vec<String>,
    pub(crate) is_error: bool,
    pub(crate) status: String,
}

/// Something that happened in a span.
#[derive(Debug, Clone, Default)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) attributes: BTreeMap<String, String>,
}

impl Seen {
    pub(crate) fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }

    /// Its event `exception`.
    pub(crate) fn exception(&self) -> Option<&Event> {
        self.events.iter().find(|event| event.name == "exception")
    }
}

/// One trace, whole: one root, every parent there, no span twice.
#[derive(Debug)]
pub(crate) struct Tree(Vec<Seen>);

impl Tree {
    /// Of all that was seen, one trace.
    ///
    /// # Errors
    /// It is not whole.
    pub(crate) fn of(seen: &[Seen], trace: &str) -> Result<Self> {
        let mut spans: Vec<Seen> = seen.iter().filter(|s| s.trace == trace).cloned().collect();
        spans.sort_by_key(|span| span.began_ns);
        let tree = Self(spans);
        tree.check()
            .with_context(|| format!("trace {trace}:\n{}", tree.drawn()))?;
        Ok(tree)
    }

    fn check(&self) -> Result<()> {
        let ids: HashSet<&str> = self.0.iter().map(|s| s.id.as_str()).collect();
        ensure!(ids.len() == self.0.len(), "a span was sent twice");
        let roots: Vec<&str> = self
            .0
            .iter()
            .filter(|s| s.parent.is_empty())
            .map(|s| s.name.as_str())
            .collect();
        ensure!(roots == ["run"], "the roots are {roots:?}");
        for span in &self.0 {
            ensure!(
                span.parent.is_empty() || ids.contains(span.parent.as_str()),
                "the parent of a span {:?} is missing",
                span.name
            );
            ensure!(
                span.began_ns <= span.ended_ns,
                "{:?} ends before it begins",
                span.name
            );
        }
        Ok(())
    }

    /// All spans of a name, in the order in which they began.
    pub(crate) fn all(&self, name: &str) -> Vec<&Seen> {
        self.0.iter().filter(|span| span.name == name).collect()
    }

    /// The only span of a name.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub(crate) fn one(&self, name: &str) -> Result<&Seen> {
        match self.all(name).as_slice() {
            [span] => Ok(span),
            several => anyhow::bail!("{} spans {name:?}:\n{}", several.len(), self.drawn()),
        }
    }

    /// Spans that tell of an error.
    pub(crate) fn errors(&self) -> Vec<&Seen> {
        self.0.iter().filter(|span| span.is_error).collect()
    }

    /// The names of the spans below one, in the order in which they began.
    pub(crate) fn below(&self, span: &Seen) -> Vec<&str> {
        self.0
            .iter()
            .filter(|s| s.parent == span.id)
            .map(|s| s.name.as_str())
            .collect()
    }

    /// The names from a span up to the root.
    pub(crate) fn way_up(&self, span: &Seen) -> Vec<&str> {
        let by_id: HashMap<&str, &Seen> = self.0.iter().map(|s| (s.id.as_str(), s)).collect();
        let mut way = Vec::new();
        let mut at = by_id.get(span.parent.as_str());
        while let Some(span) = at {
            way.push(span.name.as_str());
            at = by_id.get(span.parent.as_str());
        }
        way
    }

    /// For a person: one span a line, indented.
    pub(crate) fn drawn(&self) -> String {
        self.0
            .iter()
            .map(|span| {
                format!(
                    "{}{} [{} <- {}] {}{}\n",
                    "  ".repeat(self.way_up(span).len()),
                    span.name,
                    span.id,
                    span.parent,
                    span.process,
                    if span.is_error {
                        format!(" ERROR {}", span.status)
                    } else {
                        String::new()
                    }
                )
            })
            .collect()
    }
}
