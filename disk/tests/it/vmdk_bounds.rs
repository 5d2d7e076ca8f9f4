//! What descriptors and headers say of sizes and counts is held against bounds and against each other.

use std::{fs, os::unix::fs::FileExt, path::Path};

use tempfile::TempDir;
use virtuozo_disk::{
    BlockSource,
    vmdk::{DiskKind, Layer, create},
};

use crate::common::create_options;

fn patch(path: &Path, at: u64, new: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(new, at).unwrap();
}

#[test]
fn a_sparse_extent_of_another_size_than_its_line_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.vmdk");
    // Not a whole number of grains of 128 sectors.
    let sectors = 6100_u64;
    create(
        &path,
        &create_options(DiskKind::MonolithicSparse, sectors * 512),
    )
    .unwrap();
    for (capacity, is_good) in [
        (sectors, true),
        (6144, true),
        (sectors + 1, false),
        (6143, false),
        (6145, false),
        (6272, false),
        (sectors - 1, false),
    ] {
        patch(&path, 12, &capacity.to_le_bytes());
        let opened = Layer::open(&path);
        assert_eq!(opened.is_ok(), is_good, "{capacity}: {opened:?}");
    }
}

#[test]
fn a_delta_of_terabytes_of_zeros_in_a_descriptor_alone_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.vmdk");
    let flat = fs::File::create(dir.path().join("a-flat.vmdk")).unwrap();
    flat.set_len(8 << 40).unwrap();
    for extent in [
        "RW 17179869184 ZERO",
        "RW 17179869184 FLAT \"a-flat.vmdk\" 0",
    ] {
        let text = |parent: &str| {
            format!(
                "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID={parent}\nparentFileNameHint=\"b.vmdk\"\n\
                 createType=\"custom\"\n{extent}\n"
            )
        };
        fs::write(&path, text("2")).unwrap();
        let error = Layer::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("is a delta with 17179869184 sectors"),
            "{error}"
        );
        fs::write(&path, text("ffffffff")).unwrap();
        assert_eq!(Layer::open(&path).unwrap().size_bytes(), 8 << 40);
    }
}

#[test]
fn a_disk_of_more_extents_than_may_be_open_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.vmdk");
    let write = |count: usize| {
        let head =
            "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"custom\"\n";
        fs::write(&path, [head, &"RW 1 ZERO\n".repeat(count)].concat()).unwrap();
        Layer::open(&path)
    };
    assert_eq!(write(4200).unwrap().size_bytes(), 4200 * 512);
    let error = write(4201).unwrap_err().to_string();
    assert!(error.contains("more than 4200 extents"), "{error}");
}

#[test]
fn a_descriptor_in_an_encoding_that_is_not_known_is_told_where_that_matters() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.vmdk");
    let write = |name: &[u8]| {
        let head =
            b"# Disk DescriptorFile\nencoding=\"windows-936-2000\"\nCID=1\nparentCID=ffffffff\n\
            createType=\"monolithicFlat\"\nRW 1 FLAT \"";
        fs::write(&path, [&head[..], name, b"\" 0\n"].concat()).unwrap();
        Layer::open(&path).unwrap_err().to_string()
    };
    let told = "names the encoding \"windows-936-2000\", which is not known";
    assert!(write(b"\xcf\xb5.vmdk").contains(told));
    assert!(write(b"absent.vmdk").contains("cannot open"));
}
