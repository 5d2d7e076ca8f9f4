//! The configuration files of a VMware host's management service: `datastores.xml` and `vmInventory.xml`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use roxmltree::{Document, Node, ParsingOptions};

use super::host_path;
use crate::{DiskError, Roots};

/// Name of the list of datastores in a host's configuration directory.
pub const DATASTORES_FILE: &str = "datastores.xml";
/// Name of the list of guests, where `config.xml` names no other.
pub const INVENTORY_FILE: &str = "vmInventory.xml";

const CONFIG_FILE: &str = "config.xml";
const MAX_FILE_BYTES: u64 = 16 << 20;
const MAX_XML_NODES: u32 = 1_000_000;

/// Where a host keeps a datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory of the host.
    Directory(String),
    /// An NFS export that the host has mounted somewhere.
    Nfs {
        /// Name or address of the server.
        server: String,
        /// The exported directory.
        export: String,
    },
    /// Nothing the file says of it gives a place.
    Unknown,
}

/// A datastore as its host lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datastore {
    /// Its name, as it stands in brackets.
    pub name: String,
    /// Where it is.
    pub place: Place,
}

impl Datastore {
    /// The directory on the host. For NFS it is looked up in the text of the host's `/proc/mounts`.
    pub fn host_directory(&self, mounts: &str) -> Option<String> {
        match &self.place {
            Place::Directory(directory) => Some(directory.clone()),
            Place::Nfs { server, export } => {
                let device = format!("{server}:{}", export.trim_end_matches('/'));
                mounts.lines().find_map(|line| {
                    let mut fields = line.split_ascii_whitespace();
                    (fields.next()?.trim_end_matches('/') == device)
                        .then(|| fields.next())
                        .flatten()
                        .map(|directory| directory.replace("\\040", " "))
                })
            }
            Place::Unknown => None,
        }
    }
}

/// Reads `datastores.xml`. A name that stands twice counts once.
///
/// # Errors
/// A sentence about what is wrong with the XML.
pub fn parse_datastores(xml: &str) -> Result<Vec<Datastore>, String> {
    let document = parse_xml(xml)?;
    let mut datastores: Vec<Datastore> = Vec::new();
    let entries = children(document.root_element(), |name| name.ends_with("datastores"))
        .flat_map(|section| children(section, |name| name == "e"));
    for entry in entries {
        let Some(name) = text(entry, "name").or_else(|| text(entry, "localPath")) else {
            continue;
        };
        if datastores.iter().any(|known| known.name == name) {
            continue;
        }
        let place = match (
            text(entry, "path"),
            text(entry, "remoteHost"),
            text(entry, "remotePath"),
        ) {
            (Some(directory), _, _) => Place::Directory(directory),
            (None, Some(server), Some(share)) => {
                let cifs =
                    text(entry, "type").is_some_and(|kind| kind.eq_ignore_ascii_case("cifs"));
                if cifs {
                    let share = share.replace('/', "\\");
                    let share = share.trim_matches('\\');
                    Place::Directory(format!("\\\\{server}\\{share}"))
                } else {
                    Place::Nfs {
                        server,
                        export: share,
                    }
                }
            }
            _ => Place::Unknown,
        };
        datastores.push(Datastore { name, place });
    }
    Ok(datastores)
}

/// Writes a `datastores.xml` of local directories: name → directory.
pub fn write_datastores(datastores: &BTreeMap<String, String>) -> String {
    let mut xml = format!(
        "<ConfigRoot>\n  <LocalDatastores>\n    <_length>{}</_length>\n    <_type>hostd.host.LocalDatastoreEntry[]</_type>\n",
        datastores.len()
    );
    for (number, (name, directory)) in datastores.iter().enumerate() {
        xml.push_str(&format!(
            "    <e id=\"{number}\">\n      <_type>hostd.host.LocalDatastoreEntry</_type>\n      <name>{}</name>\n      <path>{}</path>\n    </e>\n",
            escape(name),
            escape(directory)
        ));
    }
    xml.push_str("  </LocalDatastores>\n</ConfigRoot>\n");
    xml
}

/// Reads `vmInventory.xml`: the path of each registered guest's `.vmx`, as it stands there (normally
/// a path of the host, sometimes a datastore path).
///
/// # Errors
/// A sentence about what is wrong with the XML.
pub fn parse_inventory(xml: &str) -> Result<Vec<String>, String> {
    let document = parse_xml(xml)?;
    Ok(
        children(document.root_element(), |name| name == "configentry")
            .filter_map(|entry| text(entry, "vmxCfgPath"))
            .collect(),
    )
}

/// Writes a `vmInventory.xml` of these `.vmx` paths.
pub fn write_inventory<'a>(vmx_paths: impl IntoIterator<Item = &'a str>) -> String {
    let mut xml = "<ConfigRoot>\n".to_owned();
    for (number, path) in vmx_paths.into_iter().enumerate() {
        xml.push_str(&format!(
            "  <ConfigEntry id=\"{number:04}\">\n    <objID>{}</objID>\n    <secDomain></secDomain>\n    <vmxCfgPath>{}</vmxCfgPath>\n  </ConfigEntry>\n",
            (number + 1) * 16,
            escape(path)
        ));
    }
    xml.push_str("</ConfigRoot>\n");
    xml
}

/// The place of the list of guests: what `config.xml` names, else [`INVENTORY_FILE`] beside it. It lies in the
/// directory: a path of the host that leads elsewhere is taken by its base name, because this machine may see
/// the directory at another place.
pub fn inventory_file(config_dir: &Path) -> PathBuf {
    let named = read_file(&config_dir.join(CONFIG_FILE))
        .ok()
        .flatten()
        .and_then(|xml| {
            let document = parse_xml(&xml).ok()?;
            document
                .descendants()
                .find(|node| node.tag_name().name().eq_ignore_ascii_case("vmInventory"))
                .and_then(|node| own_text(node))
        });
    let Some(named) = named else {
        return config_dir.join(INVENTORY_FILE);
    };
    let direct = config_dir.join(&named);
    if direct.parent() == Some(config_dir) && direct.exists() {
        direct
    } else {
        config_dir.join(host_path::base_name(&named))
    }
}

/// Reads one of these files as text; none if it does not exist. Bytes that are not UTF-8 become
/// replacement characters. A link does not lead out of its directory.
///
/// # Errors
/// [`DiskError::Io`]; [`DiskError::Outside`]; [`DiskError::Unsupported`] for what is not a regular file;
/// [`DiskError::Malformed`] for a file too large to be one of them.
pub fn read_file(path: &Path) -> Result<Option<String>, DiskError> {
    let path = std::path::absolute(path).map_err(DiskError::io("open", path))?;
    let opened = match Roots::new(path.parent().map(Path::to_owned)).open(&path) {
        Ok(opened) => opened,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    match opened.read_all(MAX_FILE_BYTES)? {
        Some(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        None => Err(DiskError::Malformed {
            path,
            format: "host configuration file",
            reason: format!("it is larger than {MAX_FILE_BYTES} bytes"),
        }),
    }
}

fn parse_xml(xml: &str) -> Result<Document<'_>, String> {
    let options = ParsingOptions {
        nodes_limit: MAX_XML_NODES,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(xml.trim_start_matches('\u{feff}'), options)
        .map_err(|error| format!("it is not valid XML: {error}"))
}

/// The child elements whose lower-case name fits.
fn children<'a, 'input: 'a>(
    node: Node<'a, 'input>,
    fits: impl Fn(&str) -> bool,
) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children()
        .filter(move |child| fits(&child.tag_name().name().to_ascii_lowercase()))
}

fn text(node: Node<'_, '_>, name: &str) -> Option<String> {
    node.children()
        .find(|child| child.tag_name().name().eq_ignore_ascii_case(name))
        .and_then(own_text)
}

fn own_text(node: Node<'_, '_>) -> Option<String> {
    let text = node.text()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries
            .iter()
            .map(|(name, directory)| ((*name).to_owned(), (*directory).to_owned()))
            .collect()
    }

    #[test]
    fn datastores_are_read_from_every_section() {
        let xml = r#"<ConfigRoot>
  <LocalDatastores>
    <_length>7</_length>
    <e id="0"><_type>x</_type><dynamicProperty><_length>0</_length></dynamicProperty>
      <name> standard </name><path>/srv/vm/</path></e>
    <e id="1"><name>fast &amp; small</name><path>D:\Virtual Machines</path></e>
    <e id="2"><path>/no/name</path></e>
    <e id="3"><name>standard</name><path>/second</path></e>
    <e id="4"><name>lost</name></e>
  </LocalDatastores>
  <NasDatastores>
    <e id="0"><localPath>nfs</localPath><remoteHost>nas</remoteHost><remotePath>/export/vm</remotePath><type>NFS</type></e>
    <e id="1"><localPath>cifs</localPath><remoteHost>nas</remoteHost><remotePath>/vm</remotePath><type>CIFS</type></e>
  </NasDatastores>
</ConfigRoot>"#;
        let datastores = parse_datastores(xml).unwrap();
        let mounts = "proc /proc proc rw 0 0\nnas:/export/vm /mnt/my\\040vms nfs4 rw 0 0\n";
        let found: Vec<_> = datastores
            .iter()
            .map(|one| (one.name.as_str(), one.host_directory(mounts)))
            .collect();
        assert_eq!(
            found,
            [
                ("standard", Some("/srv/vm/".to_owned())),
                ("fast & small", Some(r"D:\Virtual Machines".to_owned())),
                ("lost", None),
                ("nfs", Some("/mnt/my vms".to_owned())),
                ("cifs", Some(r"\\nas\vm".to_owned())),
            ]
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let datastores = map(&[("standard", "/srv/vm"), ("<fast> & small", "/mnt/ssd")]);
        let read: BTreeMap<_, _> = parse_datastores(&write_datastores(&datastores))
            .unwrap()
            .into_iter()
            .filter_map(|one| {
                one.host_directory("")
                    .map(|directory| (one.name, directory))
            })
            .collect();
        assert_eq!(read, datastores);

        let guests = [
            "/srv/vm/a & b/a.vmx",
            r"D:\Virtual Machines\web 1\web 1.vmx",
        ];
        assert_eq!(parse_inventory(&write_inventory(guests)).unwrap(), guests);
    }

    #[test]
    fn an_inventory_may_lie_where_the_configuration_says() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path();
        assert_eq!(inventory_file(config), config.join(INVENTORY_FILE));
        let write = |text: &str| fs::write(config.join(CONFIG_FILE), text).unwrap();
        write("<config><vmsvc><vmInventory>/var/lib/other.xml</vmInventory></vmsvc></config>");
        assert_eq!(inventory_file(config), config.join("other.xml"));
        fs::write(config.join("other.xml"), "").unwrap();
        assert_eq!(inventory_file(config), config.join("other.xml"));
        write("not xml");
        assert_eq!(inventory_file(config), config.join(INVENTORY_FILE));
    }

    #[test]
    fn damaged_and_hostile_xml_is_an_error() {
        let bomb =
            r#"<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><ConfigRoot>&b;</ConfigRoot>"#;
        for xml in ["", "<ConfigRoot>", "text", bomb] {
            assert!(parse_datastores(xml).is_err(), "{xml}");
            assert!(parse_inventory(xml).is_err(), "{xml}");
        }
        assert!(parse_datastores("<ConfigRoot/>").unwrap().is_empty());
    }
}
