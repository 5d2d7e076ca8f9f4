//! The configuration files of a VMware host's management service: `datastores.xml` and `vmInventory.xml`.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use roxmltree::{Document, Node};

use super::host_path;
use crate::{DiskError, Roots};

/// Name of the list of datastores in a host's configuration directory.
pub const DATASTORES_FILE: &str = "datastores.xml";
/// Name of the list of guests, where `config.xml` names no other.
pub const INVENTORY_FILE: &str = "vmInventory.xml";

const CONFIG_FILE: &str = "config.xml";
/// A list of ten thousand guests has half of it.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// Tags in one of these files.
const MAX_TAGS: usize = 200_000;
/// Attributes of one tag, each of which the parser compares with all others. The files have one.
const MAX_ATTRIBUTES: usize = 512;
/// Declarations of namespaces, which every tag within them takes over. The files have none.
const MAX_NAMESPACES: usize = 16;
/// Datastores of a host; each name and path is held against each.
const MAX_DATASTORES: usize = 256;
/// Guests of a host.
const MAX_GUESTS: usize = 10_000;

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
    let mut known = HashSet::new();
    let entries = children(document.root_element(), |name| name.ends_with("datastores"))
        .flat_map(|section| children(section, |name| name == "e"));
    for entry in entries {
        let Some(name) = text(entry, "name").or_else(|| text(entry, "localPath")) else {
            continue;
        };
        if !known.insert(name.clone()) {
            continue;
        }
        if known.len() > MAX_DATASTORES {
            return Err(format!("it has more than {MAX_DATASTORES} datastores"));
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
    let entries = children(document.root_element(), |name| name == "configentry");
    let paths: Vec<String> = entries
        .filter_map(|entry| text(entry, "vmxCfgPath"))
        .take(MAX_GUESTS + 1)
        .collect();
    if paths.len() > MAX_GUESTS {
        return Err(format!("it has more than {MAX_GUESTS} guests"));
    }
    Ok(paths)
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

/// Reads one of these files as text; none if it does not exist. A link does not lead out of its directory.
///
/// # Errors
/// [`DiskError::Io`]; [`DiskError::Outside`]; [`DiskError::Unsupported`] for what is not a regular file;
/// [`DiskError::Malformed`] for a file too large to be one of them, or whose encoding is not known.
pub fn read_file(path: &Path) -> Result<Option<String>, DiskError> {
    let path = std::path::absolute(path).map_err(DiskError::io("open", path))?;
    let opened = match Roots::new(path.parent().map(Path::to_owned)).open(&path) {
        Ok(opened) => opened,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let malformed = |reason: String| DiskError::Malformed {
        path: path.clone(),
        format: "host configuration file",
        reason,
    };
    match opened.read_all(MAX_FILE_BYTES)? {
        Some(bytes) => decode_xml(&bytes).map(Some).map_err(malformed),
        None => Err(malformed(format!(
            "it is larger than {MAX_FILE_BYTES} bytes"
        ))),
    }
}

/// The text of an XML file, by its byte order mark or its declaration. Without one it is UTF-8, and a name in it that is
/// not is taken for windows-1252, in which every byte means something. What XML cannot hold becomes a replacement
/// character, so that it spoils one name only.
fn decode_xml(bytes: &[u8]) -> Result<String, String> {
    let marked = Encoding::for_bom(bytes).map(|(encoding, _)| encoding);
    let encoding = match (marked, declared_encoding(bytes)) {
        (Some(encoding), _) => Some(encoding),
        (None, Some(name)) => match Encoding::for_label(name.as_bytes()) {
            // The declaration was read byte by byte, so that UTF-16 cannot be meant.
            Some(encoding) if encoding.is_ascii_compatible() => {
                Some(encoding).filter(|one| *one != UTF_8)
            }
            _ => {
                return Err(format!(
                    "it names the encoding {name:?}, which is not known"
                ));
            }
        },
        (None, None) => None,
    };
    let text = match encoding {
        Some(encoding) => encoding.decode(bytes).0.into_owned(),
        None => {
            let mut text = String::with_capacity(bytes.len());
            for chunk in bytes.utf8_chunks() {
                text.push_str(chunk.valid());
                text.push_str(&WINDOWS_1252.decode_without_bom_handling(chunk.invalid()).0);
            }
            text
        }
    };
    let is_of_xml = |character: char| !matches!(character, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}');
    if text.chars().all(is_of_xml) {
        return Ok(text);
    }
    let replaced = |character| {
        if is_of_xml(character) {
            character
        } else {
            char::REPLACEMENT_CHARACTER
        }
    };
    Ok(text.chars().map(replaced).collect())
}

/// The encoding that an XML declaration names.
fn declared_encoding(bytes: &[u8]) -> Option<String> {
    let rest = bytes.strip_prefix(b"<?xml")?;
    let end = rest.windows(2).take(512).position(|two| two == b"?>")?;
    let declaration = String::from_utf8_lossy(rest.get(..end)?);
    let (_, value) = declaration.split_once("encoding")?;
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let quote = value
        .chars()
        .next()
        .filter(|one| matches!(one, '"' | '\''))?;
    let (name, _) = value.get(1..)?.split_once(quote)?;
    Some(name.to_owned())
}

fn parse_xml(xml: &str) -> Result<Document<'_>, String> {
    refuse_excess(xml)?;
    let xml = xml.trim_start_matches('\u{feff}');
    Document::parse(xml).map_err(|error| format!("it is not valid XML: {error}"))
}

/// Refuses what would cost the parser more than one look at each byte.
fn refuse_excess(xml: &str) -> Result<(), String> {
    let count_of = |text: &str, byte: u8| text.bytes().filter(|one| *one == byte).count();
    if count_of(xml, b'<') > 2 * MAX_TAGS {
        return Err(format!("it has more than {MAX_TAGS} elements"));
    }
    if xml
        .split('<')
        .any(|tag| count_of(tag, b'=') > MAX_ATTRIBUTES)
    {
        return Err(format!(
            "a tag in it has more than {MAX_ATTRIBUTES} attributes"
        ));
    }
    if xml.matches("xmlns").nth(MAX_NAMESPACES).is_some() {
        return Err(format!("it declares more than {MAX_NAMESPACES} namespaces"));
    }
    Ok(())
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
    fn a_list_is_read_in_the_encoding_that_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(INVENTORY_FILE);
        let read = |head: &[u8], name: &[u8], tail: &[u8]| {
            let before = b"<ConfigRoot><ConfigEntry><vmxCfgPath>/vm/";
            let after = b"</vmxCfgPath></ConfigEntry></ConfigRoot>";
            fs::write(&path, [head, before, name, after, tail].concat()).unwrap();
            let text = read_file(&path).map_err(|error| error.to_string())?;
            parse_inventory(&text.unwrap_or_default()).map(|found| found.concat())
        };
        let declared = |name: &str| format!("<?xml version=\"1.0\" encoding='{name}' ?>\n");
        for (head, name) in [
            (declared("ISO-8859-1"), &b"K\xfcche"[..]),
            (declared("windows-1252"), b"K\xfcche"),
            (declared("UTF-8"), "Küche".as_bytes()),
            ("\u{feff}".to_owned(), "Küche".as_bytes()),
            (String::new(), "Küche".as_bytes()),
            (String::new(), b"K\xfcche"),
        ] {
            let found = read(head.as_bytes(), name, b"");
            assert_eq!(found.as_deref(), Ok("/vm/Küche"), "{head}");
        }
        let found = read(declared("GBK").as_bytes(), b"\xcf\xb5\xcd\xb3", b"");
        assert_eq!(found.as_deref(), Ok("/vm/系统"));
        let found = read(b"", b"a\0\x1bb", b"");
        assert_eq!(found.as_deref(), Ok("/vm/a\u{fffd}\u{fffd}b"));
        let error = read(declared("klingon").as_bytes(), b"a", b"").unwrap_err();
        assert!(
            error.contains("the encoding \"klingon\", which is not known"),
            "{error}"
        );

        let utf_16: Vec<u8> = "\u{feff}<ConfigRoot><ConfigEntry><vmxCfgPath>ü</vmxCfgPath></ConfigEntry></ConfigRoot>"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        fs::write(&path, utf_16).unwrap();
        assert_eq!(
            parse_inventory(&read_file(&path).unwrap().unwrap()).unwrap(),
            ["ü"]
        );
    }

    #[test]
    fn xml_that_costs_its_parser_more_than_a_look_at_each_byte_is_refused() {
        let attributes = |count: usize| {
            let list: String = (0..count).map(|number| format!(" a{number}='1'")).collect();
            format!("<ConfigRoot{list}/>")
        };
        assert!(parse_inventory(&attributes(MAX_ATTRIBUTES)).is_ok());
        let namespaces: String = (0..100)
            .map(|number| format!("<a xmlns:n{number}='u'>"))
            .collect();
        let datastores: String = (0..=MAX_DATASTORES)
            .map(|number| format!("<e><name>{number}</name></e>"))
            .collect();
        for (xml, why) in [
            (attributes(80_000), "attributes"),
            (namespaces, "namespaces"),
            ("<e/>".repeat(1 << 20), "elements"),
            (
                format!("<r><LocalDatastores>{datastores}</LocalDatastores></r>"),
                "datastores",
            ),
        ] {
            let error = parse_datastores(&xml).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
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
