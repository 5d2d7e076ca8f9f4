//! The settings of a process. Each is an option of the command line, or else an environment variable, or else an
//! entry of the configuration file, or else the default.
//!
//! Every option with an environment variable is a setting. In the file (TOML) its key is the option's name with
//! `_` for `-`; the options of one command stand in that command's table. The file's values become the options'
//! defaults, so that clap itself decides which source wins.

use std::{
    ffi::OsString,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use anyhow::Result;
use clap::{
    Arg, ArgMatches, Command, FromArgMatches,
    error::{ContextKind, ContextValue},
    parser::ValueSource,
};
use toml::de::{DeTable, DeValue};
use virtuozo_model::terminal;

use crate::{error::usage, output::Output};

/// The file for all users of the machine.
const SYSTEM_FILE: &str = "/etc/virtuozo/virtuozo.toml";
/// Between the values of a setting that has several.
const LIST_SEPARATOR: &str = ":";
/// The option that names the file; it is no setting.
const FILE_OPTION: &str = "config";
/// Least similarity (Jaro-Winkler) of an unknown name to a setting's for that setting to be suggested.
const SUGGESTION_SIMILARITY: f64 = 0.8;

/// An option that the environment and the file may give.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// The command whose option it is; `None` for an option of all commands.
    pub(crate) table: Option<String>,
    arg: Arg,
}

impl Setting {
    /// Its name in the file, `worker.drain_limit`.
    pub(crate) fn name(&self) -> String {
        match &self.table {
            Some(table) => format!("{table}.{}", self.key()),
            None => self.key(),
        }
    }

    fn key(&self) -> String {
        self.arg.get_long().unwrap_or_default().replace('-', "_")
    }

    /// Its id among clap's matches.
    pub(crate) fn id(&self) -> &str {
        self.arg.get_id().as_str()
    }

    /// Its option, `--drain-limit`.
    pub(crate) fn flag(&self) -> String {
        format!("--{}", self.arg.get_long().unwrap_or_default())
    }

    /// Its environment variable.
    pub(crate) fn variable(&self) -> String {
        let variable = self.arg.get_env().unwrap_or_default();
        variable.to_string_lossy().into_owned()
    }

    /// Whether it has several values.
    fn is_list(&self) -> bool {
        self.arg.get_value_delimiter().is_some()
    }

    /// Whether its value may hold a password.
    pub(crate) fn is_secret(&self) -> bool {
        self.arg.is_hide_env_values_set()
    }

    /// Why `value` is not a value of this setting; `None` if it is one.
    pub(crate) fn refuses(&self, value: &str) -> Option<String> {
        let line = format!("{}={value}", self.flag());
        let error = Command::new("file")
            .no_binary_name(true)
            .arg(self.arg.clone())
            .try_get_matches_from([line])
            .err()?;
        if let Some(ContextValue::Strings(valid)) = error.get(ContextKind::ValidValue) {
            return Some(format!("possible are {}", valid.join(", ")));
        }
        let source = std::error::Error::source(&error);
        Some(source.map_or_else(|| error.kind().to_string(), ToString::to_string))
    }
}

/// All settings of a program with these commands.
pub(crate) fn settings(command: &Command) -> Vec<Setting> {
    fn of(table: Option<&str>, command: &Command) -> Vec<Setting> {
        let args = command.get_arguments();
        let has_both = |arg: &&Arg| arg.get_env().is_some() && arg.get_long().is_some();
        args.filter(|arg| has_both(arg) && arg.get_id() != FILE_OPTION)
            .map(|arg| Setting {
                table: table.map(str::to_owned),
                arg: arg.clone(),
            })
            .collect()
    }
    let mut all = of(None, command);
    for below in command.get_subcommands() {
        all.extend(of(Some(below.get_name()), below));
    }
    all
}

/// One entry of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileEntry {
    pub(crate) name: String,
    pub(crate) value: String,
    line: usize,
}

/// The settings of this process with their sources.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// The file that was read; `None` without one.
    file: Option<PathBuf>,
    entries: Vec<FileEntry>,
    settings: Vec<Setting>,
    /// All commands, with the file's values as defaults.
    command: Command,
    matches: ArgMatches,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// An option on the command line.
    Flag,
    /// An environment variable.
    Environment,
    /// The file.
    File,
    /// No source gives it.
    Default,
}

/// A setting's value as this process sees it.
#[derive(Debug)]
pub(crate) struct Value {
    /// `None` if no source gives it and clap knows no default.
    pub(crate) text: Option<String>,
    pub(crate) origin: Origin,
    /// The option, the variable, or the file with its line; `None` for a default.
    pub(crate) place: Option<String>,
}

impl Configuration {
    /// Reads the command line and the environment. Ends the process where the command line is wrong or asks for
    /// help, as clap does.
    pub(crate) fn of_command_line(command: Command) -> Self {
        let settings = settings(&command);
        let command = without_empty_variables(command);
        let matches = matches(&command);
        Self {
            file: None,
            entries: Vec::new(),
            settings,
            command,
            matches,
        }
    }

    /// The arguments as clap's derived type. Ends the process where they are not such.
    pub(crate) fn parsed<T: FromArgMatches>(&self) -> T {
        T::from_arg_matches(&self.matches).unwrap_or_else(|error| end(&error))
    }

    /// Reads the configuration file as well: the named one, or the first that exists of the user's and the machine's.
    /// Returns whether there was one.
    ///
    /// # Errors
    /// The file cannot be read, or has an unknown setting or a value that the setting does not take.
    pub(crate) fn read_file(&mut self, named: Option<&Path>) -> Result<bool> {
        let Some((path, text)) = find(named)? else {
            return Ok(false);
        };
        self.entries = parse(&path, &text, &self.settings)?;
        self.command = with_defaults(self.command.clone(), &self.entries, &self.settings);
        self.file = Some(path);
        self.matches = matches(&self.command);
        Ok(true)
    }

    /// All settings with their values. A setting of a command has the value with which that command would start.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&Setting, Value)> {
        self.settings
            .iter()
            .map(|setting| (setting, self.value(setting)))
    }

    fn value(&self, setting: &Setting) -> Value {
        let of_command = setting.table.as_ref().and_then(|table| {
            let line = ["virtuozo", table].map(OsString::from);
            let matches = self.command.clone().try_get_matches_from(line).ok()?;
            matches.subcommand_matches(table).cloned()
        });
        let matches = of_command.as_ref().unwrap_or(&self.matches);
        let text = matches.get_raw(setting.id()).map(|all| {
            let all: Vec<_> = all.map(|one| one.to_string_lossy()).collect();
            all.join(LIST_SEPARATOR)
        });
        let entry = self
            .entries
            .iter()
            .find(|entry| entry.name == setting.name());
        let (origin, place) = match (matches.value_source(setting.id()), entry, &self.file) {
            (Some(ValueSource::CommandLine), ..) => (Origin::Flag, Some(setting.flag())),
            (Some(ValueSource::EnvVariable), ..) => (Origin::Environment, Some(setting.variable())),
            (_, Some(entry), Some(file)) => {
                let place = format!("{}:{}", file.display(), entry.line);
                (Origin::File, Some(place))
            }
            _ => (Origin::Default, None),
        };
        Value {
            text,
            origin,
            place,
        }
    }
}

/// The arguments of this process. Ends it where they are wrong or ask for help.
fn matches(command: &Command) -> ArgMatches {
    let read = command.clone().try_get_matches();
    read.unwrap_or_else(|error| end(&error))
}

/// Ends the process as clap does, with the error as JSON where that is asked for.
fn end(error: &clap::Error) -> ! {
    let out = Output::without_options();
    let text = error.render().to_string();
    if error.use_stderr() && (out.is_for_programs() || terminal::escaped_lines(&text) != text) {
        // The rest is the usage of the command, in lines for people.
        let message = text.split("\n\nUsage:").next().unwrap_or(&text);
        let lines: Vec<_> = message.lines().map(str::trim).collect();
        let message = lines.join(" ");
        out.failure(message.strip_prefix("error: ").unwrap_or(&message).trim());
        std::process::exit(error.exit_code());
    }
    error.exit()
}

/// An empty variable counts as not set: compose files and units cannot leave one out.
fn without_empty_variables(command: Command) -> Command {
    command
        .mut_args(|arg| {
            let variable = arg.get_env().and_then(std::env::var_os);
            if variable.is_some_and(|content| content.is_empty()) {
                arg.env(None)
            } else {
                arg
            }
        })
        .mut_subcommands(without_empty_variables)
}

fn with_defaults(command: Command, entries: &[FileEntry], all: &[Setting]) -> Command {
    entries.iter().fold(command, |command, entry| {
        let Some(setting) = all.iter().find(|setting| setting.name() == entry.name) else {
            return command;
        };
        let set = |command: Command| {
            command.mut_arg(setting.id(), |arg| {
                arg.default_value(entry.value.clone())
                    .hide_default_value(true)
            })
        };
        match &setting.table {
            Some(table) => command.mut_subcommand(table.clone(), set),
            None => set(command),
        }
    })
}

/// The path and the text of the named file, or else of the first that exists: the user's, the machine's.
fn find(named: Option<&Path>) -> Result<Option<(PathBuf, String)>> {
    let unreadable = |path: &Path, error: &io::Error| {
        usage(format!(
            "the configuration file {} cannot be read: {error}. Name another with --config or \
             VIRTUOZO_CONFIG, or /dev/null for none",
            path.display()
        ))
    };
    if let Some(path) = named {
        let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        return Ok(Some((path.to_owned(), text)));
    }
    for path in default_files() {
        match fs::read_to_string(&path) {
            Ok(text) => return Ok(Some((path, text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(&path, &error)),
        }
    }
    Ok(None)
}

/// Where the configuration file is looked for if none is named.
pub(crate) fn default_files() -> [PathBuf; 2] {
    let own = virtuozo_secrets::default_key_file().with_file_name("virtuozo.toml");
    [own, PathBuf::from(SYSTEM_FILE)]
}

/// An array of texts as the value of a setting that has several.
fn list_of(value: &DeValue<'_>) -> Option<String> {
    let DeValue::Array(items) = value else {
        return None;
    };
    let texts: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
    Some(texts?.join(LIST_SEPARATOR))
}

/// The entries in a file's text.
pub(crate) fn parse(path: &Path, text: &str, all: &[Setting]) -> Result<Vec<FileEntry>> {
    let line_of = |span: Range<usize>| {
        let before = text.get(..span.start).unwrap_or(text);
        before.matches('\n').count() + 1
    };
    let wrong = |line: usize, why: &str| usage(format!("{}:{line}: {why}", path.display()));
    let document = DeTable::parse(text).map_err(|error| {
        // Without the line itself, which may hold a password.
        wrong(line_of(error.span().unwrap_or(0..0)), error.message())
    })?;
    let mut found = Vec::new();
    let mut open = vec![(None, document.get_ref())];
    while let Some((table, entries)) = open.pop() {
        for (key, value) in entries {
            let line = line_of(key.span());
            let name = match table {
                Some(table) => format!("{table}.{}", key.get_ref()),
                None => key.get_ref().to_string(),
            };
            let list = list_of(value.get_ref());
            let value = match (value.get_ref(), table) {
                (DeValue::Table(entries), None)
                    if all
                        .iter()
                        .any(|one| one.table.as_deref() == Some(key.get_ref())) =>
                {
                    open.push((Some(key.get_ref()), entries));
                    continue;
                }
                (DeValue::String(text), _) => Some(text.to_string()),
                (DeValue::Integer(number), _) if number.radix() == 10 => {
                    Some(number.as_str().to_owned())
                }
                (DeValue::Boolean(truth), _) => Some(truth.to_string()),
                _ => None,
            };
            let Some(setting) = all.iter().find(|setting| setting.name() == name) else {
                return Err(wrong(line, &unknown_setting(&name, all)));
            };
            let value = value.or_else(|| list.filter(|_| setting.is_list()));
            let Some(value) = value else {
                let why = format!("{name} has to be a text, a whole number, or true or false");
                return Err(wrong(line, &why));
            };
            if let Some(why) = setting.refuses(&value) {
                let value = if setting.is_secret() { "…" } else { &value };
                return Err(wrong(line, &format!("{name} = {value:?} cannot be: {why}")));
            }
            found.push(FileEntry { name, value, line });
        }
    }
    Ok(found)
}

/// The error for a name that no setting has, with the most similar one that exists.
fn unknown_setting(name: &str, all: &[Setting]) -> String {
    let key = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let best = all
        .iter()
        .map(Setting::name)
        .map(|known| {
            // A right key in the wrong table is suggested as well.
            let similarity = strsim::jaro_winkler(&known, name)
                .max(strsim::jaro_winkler(&key(&known), &key(name)));
            (similarity, known)
        })
        .filter(|(similarity, _)| *similarity >= SUGGESTION_SIMILARITY)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    match best {
        Some((_, known)) => format!("there is no setting {name:?}; did you mean {known:?}?"),
        None => format!(
            "there is no setting {name:?}; there are {}",
            all.iter().map(Setting::name).collect::<Vec<_>>().join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn read(text: &str) -> std::result::Result<Vec<FileEntry>, String> {
        parse(Path::new("v.toml"), text, &settings(&Cli::command()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_setting_has_one_name_and_an_option_of_that_name() {
        let mut names: Vec<_> = settings(&Cli::command())
            .iter()
            .map(Setting::name)
            .collect();
        assert!(names.len() > 8, "{names:?}");
        assert!(
            names.contains(&"worker.drain_limit".to_owned()),
            "{names:?}"
        );
        assert!(!names.contains(&FILE_OPTION.to_owned()));
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "two settings have one name");
    }

    #[test]
    fn a_file_gives_settings_of_all_and_of_single_commands() {
        let text = "log = \"json\"\n\n[worker]\nname = \"rack2\"\ndrain_limit = 60\n";
        let mut given = read(text).unwrap();
        given.sort_by_key(|given| given.line);
        let seen: Vec<_> = given
            .iter()
            .map(|given| (given.name.as_str(), given.value.as_str(), given.line))
            .collect();
        assert_eq!(
            seen,
            [
                ("log", "json", 1),
                ("worker.name", "rack2", 4),
                ("worker.drain_limit", "60", 5)
            ]
        );
    }

    #[test]
    fn several_directories_are_an_array_or_have_colons_between_them() {
        for text in [
            "read_roots = [\"/srv\", \"/mnt\"]",
            "read_roots = \"/srv:/mnt\"",
        ] {
            assert_eq!(read(text).unwrap()[0].value, "/srv:/mnt");
        }
        for text in [
            "read_roots = \"/\"",
            "write_roots = [\"/srv\", \"/\"]",
            "write_roots = [\"srv\"]",
            "write_roots = [1]",
            "hooks_dir = [\"/srv\"]",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told_with_its_line_and_what_is_right() {
        for (text, line, why) in [
            ("log = json", "v.toml:1:", ""),
            ("\nlogg = \"json\"", "v.toml:2:", "did you mean \"log\""),
            (
                "drain_limit = 5",
                "v.toml:1:",
                "did you mean \"worker.drain_limit\"",
            ),
            ("[wroker]\nname = \"x\"", "v.toml:1:", "\"wroker\""),
            (
                "[worker]\nnmae = \"x\"",
                "v.toml:2:",
                "did you mean \"worker.name\"",
            ),
            ("config = \"x\"", "v.toml:1:", "there is no setting"),
            ("zebra = 1", "v.toml:1:", "database_url"),
            ("log = \"xml\"", "v.toml:1:", "human, json"),
            (
                "[worker]\ndrain_limit = \"soon\"",
                "v.toml:2:",
                "invalid digit",
            ),
            ("[worker]\ndrain_limit = [1]", "v.toml:2:", "whole number"),
            ("worker = 1", "v.toml:1:", "there is no setting"),
            ("log = \"json\"\nlog = \"json\"", "v.toml:2:", "duplicate"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.starts_with(line), "{text:?}: {said}");
            assert!(said.contains(why), "{text:?}: {said}");
        }
    }

    #[test]
    fn a_line_that_is_not_understood_is_not_repeated() {
        let said = read("database_url = postgres://u:s3cret@db/x").unwrap_err();
        assert!(said.starts_with("v.toml:1:"), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }

    #[test]
    fn a_value_of_the_file_gives_way_to_an_option() {
        let given = read("[worker]\ndrain_limit = 60\nname = \"rack2\"").unwrap();
        let command = with_defaults(Cli::command(), &given, &settings(&Cli::command()));
        let seen = |line: &[&str]| {
            let matches = command.clone().try_get_matches_from(line).unwrap();
            let worker = matches.subcommand_matches("worker").unwrap();
            let name = worker.get_one::<String>("name").cloned();
            (worker.get_one::<u64>("drain_limit").copied(), name)
        };
        let name = Some("rack2".to_owned());
        assert_eq!(seen(&["virtuozo", "worker"]), (Some(60), name.clone()));
        assert_eq!(
            seen(&["virtuozo", "worker", "--drain-limit", "5"]),
            (Some(5), name)
        );
    }
}
