//! What VMware's wrapper library is told on this machine: its settings, and the tables by which it takes a provider
//! library for a product.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use virtuozo_disk::vmware::Dictionary;
use vix_sys::{
    VIX_SERVICEPROVIDER_VMWARE_PLAYER, VIX_SERVICEPROVIDER_VMWARE_SERVER,
    VIX_SERVICEPROVIDER_VMWARE_VI_SERVER, VIX_SERVICEPROVIDER_VMWARE_WORKSTATION,
    VIX_SERVICEPROVIDER_VMWARE_WORKSTATION_SHARED, VixServiceProvider,
};

use super::library::{Numbers, provider_directories};

/// Where the wrapper looks for all that is not set.
const LIBRARY_DIRECTORY: &str = "/usr/lib/vmware";
/// Where the products put provider libraries.
const VIX_DIRECTORY: &str = "/usr/lib/vmware-vix";
const MAIN_TABLE: &str = "vixwrapper-config.txt";
/// Its lines are searched first.
const PRODUCT_TABLE: &str = "vixwrapper-product-config.txt";
/// What lines of current products say beside product, version and directory.
const API_VERSION: &str = "19";
const CHANNEL: &str = "vmdb";

/// What to do where the wrapper knows a product, but finds no provider library for its version (error 22002).
pub(super) fn advice(provider: VixServiceProvider) -> String {
    let home = env::var_os("HOME").map(PathBuf::from);
    Wrapper::load(home.as_deref(), Path::new("/etc/vmware/config")).advice(provider)
}

/// The settings of the wrapper and what they lead to.
struct Wrapper {
    /// The files that were read, strongest first, and their content.
    settings: Vec<(PathBuf, Dictionary)>,
    library_directory: PathBuf,
    vix_directory: PathBuf,
}

/// A line of a table.
struct Line {
    table: PathBuf,
    api_version: String,
    channel: String,
    directory: String,
}

impl Wrapper {
    fn load(home: Option<&Path>, system: &Path) -> Self {
        let of_home = |name: &str| home.map(|home| home.join(".vmware").join(name));
        let mut files: Vec<PathBuf> = of_home("preferences")
            .into_iter()
            .chain(of_home("config"))
            .collect();
        files.push(system.to_owned());
        let mut settings = read(files);
        let library_directory = value(&settings, "libdir").map_or(LIBRARY_DIRECTORY, |(_, it)| it);
        let library_directory = PathBuf::from(library_directory);
        let mut all = read(vec![library_directory.join("settings")]);
        all.append(&mut settings);
        all.extend(read(vec![library_directory.join("config")]));
        let vix_directory = value(&all, "vix.libdir").map_or(VIX_DIRECTORY, |(_, it)| it);
        Self {
            vix_directory: vix_directory.into(),
            library_directory,
            settings: all,
        }
    }

    fn advice(&self, provider: VixServiceProvider) -> String {
        let Some(word) = word(provider) else {
            return "Install the product's VIX library".to_owned();
        };
        let lines = self.lines(word);
        let missing: Vec<String> = lines
            .iter()
            .filter(|line| self.library(&line.directory).is_none())
            .map(|line| {
                let path = self.vix_directory.join(&line.directory);
                format!("{} names {}", line.table.display(), path.display())
            })
            .collect();
        let Some((key, version, file)) = self.version(provider) else {
            return match missing.as_slice() {
                [] => format!(
                    "Install the product's VIX library below {}",
                    self.vix_directory.display()
                ),
                _ => format!(
                    "The library is missing ({}); install the product's VIX library",
                    missing.join(", ")
                ),
            };
        };
        let installed = format!(
            "The installed version is {version} ({key} in {})",
            file.display()
        );
        let Some((line, table)) = self.line_for(word, version, &lines) else {
            return format!(
                "{installed}, but no library {} is there for it; install the product's VIX library",
                self.vix_directory.join("*/64bit/libvix.so").display()
            );
        };
        format!(
            "{installed}; add this line at the end of {}: {line}",
            table.display()
        )
    }

    /// The line that lets the wrapper take a library for a version, and the table that it belongs into.
    fn line_for(&self, word: &str, version: &str, lines: &[Line]) -> Option<(String, PathBuf)> {
        let usable = lines
            .iter()
            .filter(|line| self.library(&line.directory).is_some());
        let like = usable.max_by_key(|line| Numbers::of(&line.directory));
        let (api_version, channel, directory) = match like {
            Some(line) => (
                line.api_version.as_str(),
                line.channel.as_str(),
                line.directory.clone(),
            ),
            None => {
                let newest = provider_directories(&self.vix_directory)
                    .into_iter()
                    .next()?;
                (API_VERSION, CHANNEL, newest)
            }
        };
        let product_table = self.library_directory.join(PRODUCT_TABLE);
        let table = match product_table.is_file() {
            true => product_table,
            false => self.vix_directory.join(MAIN_TABLE),
        };
        let line = format!("{word}  {api_version}  {channel}  {version}  {directory}");
        Some((line, table))
    }

    /// The key and the value of the installed version, and the file that says it. Only products on this machine have one.
    fn version(&self, provider: VixServiceProvider) -> Option<(&'static str, &str, &Path)> {
        let own = match provider {
            VIX_SERVICEPROVIDER_VMWARE_WORKSTATION => "workstation.product.version",
            VIX_SERVICEPROVIDER_VMWARE_PLAYER => "player.product.version",
            _ => return None,
        };
        let key = match value(&self.settings, "vix.config.version") {
            Some(_) => own,
            None => "product.version",
        };
        value(&self.settings, key).map(|(file, version)| (key, version, file))
    }

    /// The lines of a product, in the order in which the wrapper reads them.
    fn lines(&self, word: &str) -> Vec<Line> {
        let tables = [
            self.vix_directory.join(MAIN_TABLE),
            self.library_directory.join(PRODUCT_TABLE),
        ];
        let mut lines = Vec::new();
        for table in tables {
            let bytes = fs::read(&table).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            lines.extend(text.lines().filter_map(|line| parse(line, word, &table)));
        }
        lines
    }

    /// The library that a directory of a line holds.
    fn library(&self, directory: &str) -> Option<PathBuf> {
        let directory = self.vix_directory.join(directory).join("64bit");
        ["libvmwarebase.so", "libvix.so"]
            .iter()
            .map(|name| directory.join(name))
            .find(|path| path.is_file())
    }
}

/// The files of these that can be read.
fn read(files: Vec<PathBuf>) -> Vec<(PathBuf, Dictionary)> {
    files
        .into_iter()
        .filter_map(|file| {
            let (content, _) = Dictionary::load(&file).ok()?;
            Some((file, content))
        })
        .collect()
}

/// The value of a key in the first file that has it.
fn value<'a>(settings: &'a [(PathBuf, Dictionary)], key: &str) -> Option<(&'a Path, &'a str)> {
    settings
        .iter()
        .find_map(|(file, content)| Some((file.as_path(), content.get(key)?)))
        .filter(|(_, value)| !value.is_empty())
}

/// What tables call a provider.
fn word(provider: VixServiceProvider) -> Option<&'static str> {
    match provider {
        VIX_SERVICEPROVIDER_VMWARE_SERVER => Some("server"),
        VIX_SERVICEPROVIDER_VMWARE_WORKSTATION => Some("ws"),
        VIX_SERVICEPROVIDER_VMWARE_PLAYER => Some("player"),
        VIX_SERVICEPROVIDER_VMWARE_VI_SERVER => Some("viserver"),
        VIX_SERVICEPROVIDER_VMWARE_WORKSTATION_SHARED => Some("ws-shared"),
        _ => None,
    }
}

/// Provider, API version, channel, product version; the rest is the directory, in which there may be blanks.
fn parse(line: &str, word: &str, table: &Path) -> Option<Line> {
    let line = line.split('#').next()?;
    let mut rest = line;
    let mut column = || {
        let (column, after) = rest.trim_start().split_once([' ', '\t'])?;
        rest = after;
        Some(column)
    };
    let product = column()?;
    let (api_version, channel, _version) = (column()?, column()?, column()?);
    let directory = rest.trim();
    (product == word && !directory.is_empty()).then(|| Line {
        table: table.to_owned(),
        directory: directory.to_owned(),
        api_version: api_version.to_owned(),
        channel: channel.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// Settings of the machine, with these beside the directories.
        fn settings(&self, more: &str) {
            let (lib, vix) = (self.path("lib"), self.path("vix"));
            let (lib, vix) = (lib.display(), vix.display());
            let text = format!("libdir = \"{lib}\"\nvix.libdir = \"{vix}\"\n{more}");
            self.write("config", &text);
        }

        fn provider(&self, directory: &str) {
            self.write(&format!("vix/{directory}/64bit/libvix.so"), "");
        }

        fn advice(&self, provider: VixServiceProvider) -> String {
            Wrapper::load(Some(&self.path("home")), &self.path("config")).advice(provider)
        }
    }

    const VERSIONS: &str = "product.version = \"1.0.0\"\nvix.config.version = \"1\"\n\
                            workstation.product.version = \"17.6.3\"\nplayer.product.version = \"17.6.4\"\n";

    #[test]
    fn the_line_to_add_takes_the_newest_library_and_the_table_that_is_searched_first() {
        let machine = Machine::new();
        machine.settings(VERSIONS);
        machine.provider("Workstation-9.0.0");
        machine.provider("Workstation-17.0.0");
        machine.write(
            "vix/vixwrapper-config.txt",
            "ws  19  vmdb  9.0.0  Workstation-9.0.0\nws\t20  vmdb  17.6.2 Workstation-17.0.0 # newest\n\
             ws  21  vmdb  18.0.0  Workstation-18.0.0\nplayer 19 vmdb 9.0.0 Workstation-9.0.0\n",
        );
        let said = machine.advice(VIX_SERVICEPROVIDER_VMWARE_WORKSTATION);
        let table = machine.path("vix/vixwrapper-config.txt");
        assert_eq!(
            said,
            format!(
                "The installed version is 17.6.3 (workstation.product.version in {}); add this line at the end of {}: \
                 ws  20  vmdb  17.6.3  Workstation-17.0.0",
                machine.path("config").display(),
                table.display()
            )
        );
        machine.write("lib/vixwrapper-product-config.txt", "# none\n");
        let said = machine.advice(VIX_SERVICEPROVIDER_VMWARE_PLAYER);
        assert!(said.contains("vixwrapper-product-config.txt: "), "{said}");
        assert!(
            said.ends_with(": player  19  vmdb  17.6.4  Workstation-9.0.0"),
            "{said}"
        );
    }

    #[test]
    fn without_a_usable_line_the_directories_of_libraries_are_taken_and_without_those_the_package_is_named()
     {
        let machine = Machine::new();
        machine.settings("product.version = \"17.6.3\"\n");
        let said = machine.advice(VIX_SERVICEPROVIDER_VMWARE_WORKSTATION);
        assert!(
            said.contains("17.6.3") && said.contains("install"),
            "{said}"
        );
        machine.provider("Workstation-9.0.0");
        machine.provider("Workstation-17.0.0");
        let said = machine.advice(VIX_SERVICEPROVIDER_VMWARE_WORKSTATION);
        assert!(
            said.ends_with(": ws  19  vmdb  17.6.3  Workstation-17.0.0"),
            "{said}"
        );
    }

    #[test]
    fn settings_of_the_user_are_stronger_than_those_of_the_machine() {
        let machine = Machine::new();
        machine.settings(VERSIONS);
        machine.provider("Workstation-17.0.0");
        machine.write(
            "home/.vmware/config",
            "workstation.product.version = \"17.9.9\"\n",
        );
        let said = machine.advice(VIX_SERVICEPROVIDER_VMWARE_WORKSTATION);
        assert!(
            said.contains("17.9.9") && said.contains(".vmware/config"),
            "{said}"
        );
    }

    #[test]
    fn a_product_whose_version_does_not_matter_lacks_its_library() {
        let machine = Machine::new();
        machine.settings(VERSIONS);
        machine.write(
            "vix/vixwrapper-config.txt",
            "viserver  19  vmodl  unknown  VIServer 2.0.0\n",
        );
        let said = machine.advice(VIX_SERVICEPROVIDER_VMWARE_VI_SERVER);
        assert!(said.contains("vix/VIServer 2.0.0"), "{said}");
    }
}
