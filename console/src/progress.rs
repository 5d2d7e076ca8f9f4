//! Progress on stderr: lines that are replaced on a terminal, and are printed once for each change elsewhere.

use std::{collections::BTreeMap, io::IsTerminal};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use virtuozo_model::terminal;

use crate::output;

/// The progress of one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProgressLine {
    /// What the line is about; identifies it between updates.
    pub(crate) subject: String,
    /// The whole line, for a terminal.
    pub(crate) text: String,
    /// What is printed without a terminal, whenever it changes; so it holds no numbers that grow. Nothing is
    /// printed if it is empty.
    pub(crate) summary: String,
}

/// A block of lines at the bottom of the terminal, or plain output to stderr without one.
pub(crate) struct ProgressDisplay {
    terminal: bool,
    block: MultiProgress,
    lines: Vec<ProgressBar>,
    /// The last summary of each subject.
    printed: BTreeMap<String, String>,
}

impl ProgressDisplay {
    /// A display on stderr; stdout is for results.
    pub(crate) fn on_stderr() -> Self {
        Self::new(
            std::io::stderr().is_terminal(),
            ProgressDrawTarget::stderr(),
        )
    }

    fn new(terminal: bool, target: ProgressDrawTarget) -> Self {
        Self {
            terminal,
            block: MultiProgress::with_draw_target(target),
            lines: Vec::new(),
            printed: BTreeMap::new(),
        }
    }

    /// Replaces the shown lines by these.
    pub(crate) fn draw(&mut self, lines: &[ProgressLine]) {
        if !self.terminal {
            for line in lines {
                let before = self
                    .printed
                    .insert(line.subject.clone(), line.summary.clone());
                if before.as_ref() != Some(&line.summary) && !line.summary.is_empty() {
                    self.print(&format!("{}: {}", line.subject, line.summary));
                }
            }
            return;
        }
        while self.lines.len() > lines.len() {
            if let Some(bar) = self.lines.pop() {
                bar.finish_and_clear();
                self.block.remove(&bar);
            }
        }
        while self.lines.len() < lines.len() {
            let style = ProgressStyle::with_template("{wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = self.block.add(ProgressBar::no_length());
            bar.set_style(style);
            self.lines.push(bar);
        }
        for (bar, line) in self.lines.iter().zip(lines) {
            bar.set_message(terminal::escaped(&line.text).into_owned());
        }
    }

    /// Prints a line that stays, above the block.
    pub(crate) fn print(&self, text: &str) {
        if !self.terminal || self.block.println(terminal::escaped(text)).is_err() {
            output::note(text);
        }
    }

    /// Removes the block.
    pub(crate) fn clear(&mut self) {
        self.draw(&[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> ProgressLine {
        ProgressLine {
            subject: "alpha/mail".to_owned(),
            text: text.to_owned(),
            summary: text.to_owned(),
        }
    }

    #[test]
    fn the_block_has_the_lines_that_were_drawn_last() {
        let mut display = ProgressDisplay::new(true, ProgressDrawTarget::hidden());
        display.draw(&[line("one"), line("two")]);
        assert_eq!(display.lines.len(), 2);
        display.draw(&[line("three")]);
        assert_eq!(display.lines.len(), 1);
        assert_eq!(display.lines[0].message(), "three");
        display.draw(&[line("a\u{1b}[2J\nb")]);
        assert_eq!(display.lines[0].message(), "a\\u{1b}[2J\\nb");
        display.clear();
        assert!(display.lines.is_empty());
    }

    #[test]
    fn without_a_terminal_the_last_summary_is_remembered_so_that_only_changes_are_printed() {
        let mut display = ProgressDisplay::new(false, ProgressDrawTarget::hidden());
        display.draw(&[line("copy")]);
        assert_eq!(display.printed["alpha/mail"], "copy");
        assert!(display.lines.is_empty());
    }
}
