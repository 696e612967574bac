//! The archive from which a kernel fills its first file system: cpio in the form `newc`
//! (Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's sources).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Files by their absolute paths.
#[derive(Default)]
pub(super) struct Archive {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LAST: &str = "TRAILER!!!";

impl Archive {
    /// Adds the file `source` under the absolute path `name`.
    pub(super) fn add(&mut self, name: &Path, source: &Path) -> Result<()> {
        let contents = fs::read(source).with_context(|| source.display().to_string())?;
        self.files.insert(name.to_owned(), contents);
        Ok(())
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let file = fs::File::create(path).with_context(|| path.display().to_string())?;
        let mut file = BufWriter::new(file);
        self.write_to(&mut file)?;
        Ok(file.flush()?)
    }

    fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let parents = self.files.keys().flat_map(|path| path.ancestors().skip(1));
        // Sorted, a directory comes before what is in it.
        let directories: BTreeSet<&Path> = parents.filter(|dir| dir.parent().is_some()).collect();
        for directory in directories {
            write_entry(out, &relative(directory), DIRECTORY, &[])?;
        }
        for (path, contents) in &self.files {
            write_entry(out, &relative(path), PROGRAM, contents)?;
        }
        write_entry(out, LAST, 0, &[])
    }
}

fn relative(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_owned()
}

fn write_entry(out: &mut impl Write, name: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
    const LINKS: usize = 1;
    // Inode, mode, user, group, links, time, size, two devices, length of the name, checksum. The
    // kernel takes files with one link for themselves, whatever their inode.
    let fields = [
        0,
        mode as usize,
        0,
        0,
        LINKS,
        0,
        contents.len(),
        0,
        0,
        0,
        0,
        name.len() + 1,
        0,
    ];
    let fields: String = fields.iter().map(|field| format!("{field:08x}")).collect();
    let header = format!("070701{fields}{name}\0");
    write_aligned(out, header.as_bytes())?;
    write_aligned(out, contents)
}

/// Everything begins at a multiple of four.
fn write_aligned(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    let padding = bytes.len().next_multiple_of(4) - bytes.len();
    out.write_all(&vec![0; padding])
}

#[cfg(test)]
mod tests {
    use super::{Archive, PathBuf};

    /// A kernel that does not understand the archive panics, for want of an init.
    #[test]
    fn directories_come_before_files_and_all_is_aligned() {
        let mut archive = Archive::default();
        let file = (PathBuf::from("/lib/x/libc.so"), b"contents".to_vec());
        archive.files.extend([file]);
        let mut bytes = Vec::new();
        archive.write_to(&mut bytes).expect("memory takes all");
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let places = [
            "lib\0",
            "lib/x\0",
            "lib/x/libc.so\0",
            "contents",
            "TRAILER!!!\0",
        ];
        let places = places.map(|name| text.find(name).expect(name));
        assert!(places.is_sorted(), "{places:?}");
    }
}
