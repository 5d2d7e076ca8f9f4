//! Lines that change in place on a terminal, and are said once for each change where there is none.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// One line about one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveLine {
    /// What it is about; the line of the same name is replaced.
    pub(crate) about: String,
    /// The whole line, for a terminal.
    pub(crate) text: String,
    /// What is worth a line of its own where nothing can be replaced: without numbers that grow.
    /// Empty: nothing is.
    pub(crate) gist: String,
}

/// A block of lines at the bottom of the terminal.
pub(crate) struct Live {
    terminal: bool,
    block: MultiProgress,
    lines: Vec<ProgressBar>,
    said: BTreeMap<String, String>,
}

impl Live {
    /// On stderr, so that results on stdout stay clean.
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
            said: BTreeMap::new(),
        }
    }

    /// Shows these lines instead of those shown before.
    pub(crate) fn draw(&mut self, lines: &[LiveLine]) {
        if !self.terminal {
            for line in lines {
                let before = self.said.insert(line.about.clone(), line.gist.clone());
                if before.as_ref() != Some(&line.gist) && !line.gist.is_empty() {
                    self.say(&format!("{}: {}", line.about, line.gist));
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
            bar.set_message(line.text.clone());
        }
    }

    /// Says something that stays, above the block.
    pub(crate) fn say(&self, text: &str) {
        if !self.terminal || self.block.println(text).is_err() {
            // Nothing can be done where even stderr is gone.
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    /// Takes the block away.
    pub(crate) fn clear(&mut self) {
        self.draw(&[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> LiveLine {
        LiveLine {
            about: "alpha/mail".to_owned(),
            text: text.to_owned(),
            gist: text.to_owned(),
        }
    }

    #[test]
    fn the_block_has_as_many_lines_as_were_drawn_last() {
        let mut live = Live::new(true, ProgressDrawTarget::hidden());
        live.draw(&[line("one"), line("two")]);
        assert_eq!(live.lines.len(), 2);
        live.draw(&[line("three")]);
        assert_eq!(live.lines.len(), 1);
        assert_eq!(live.lines[0].message(), "three");
        live.clear();
        assert!(live.lines.is_empty());
    }

    #[test]
    fn without_a_terminal_a_line_is_remembered_so_that_only_changes_are_said() {
        let mut live = Live::new(false, ProgressDrawTarget::hidden());
        live.draw(&[line("copy")]);
        assert_eq!(live.said["alpha/mail"], "copy");
        assert!(live.lines.is_empty());
    }
}
