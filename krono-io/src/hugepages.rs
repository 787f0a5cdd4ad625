//! Huge pages: whether to use them, and how many are free.

use std::fs;
use std::path::Path;

/// Whether memory is to lie on huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hugepages {
    /// Where enough are free, else normal pages.
    #[default]
    Auto,
    /// Or it is an error.
    Required,
    /// Normal pages only.
    Off,
}

/// Bytes of huge pages, of all sizes, that are reserved in the kernel and neither in use nor
/// promised to anybody.
pub(crate) fn free_bytes() -> u64 {
    free_bytes_in(Path::new("/sys/kernel/mm/hugepages"))
}

/// `root` holds a directory `hugepages-<size>kB` for each size (kernel: admin-guide/mm/hugetlbpage).
fn free_bytes_in(root: &Path) -> u64 {
    let sizes = fs::read_dir(root).into_iter().flatten().flatten();
    sizes.filter_map(|size| free_bytes_of_size(&size.path())).sum()
}

fn free_bytes_of_size(directory: &Path) -> Option<u64> {
    let name = directory.file_name()?.to_str()?;
    let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    let count = |file| fs::read_to_string(directory.join(file)).ok()?.trim().parse::<u64>().ok();
    let free = count("free_hugepages")?.saturating_sub(count("resv_hugepages")?);
    Some(free * kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promised_pages_are_not_free_and_sizes_add_up() {
        let root = tempfile::tempdir().unwrap();
        for (size, free, promised) in [("2048", "10\n", "3\n"), ("1048576", "2\n", "0\n")] {
            let directory = root.path().join(format!("hugepages-{size}kB"));
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("free_hugepages"), free).unwrap();
            fs::write(directory.join("resv_hugepages"), promised).unwrap();
        }
        fs::create_dir(root.path().join("something-else")).unwrap();
        assert_eq!(free_bytes_in(root.path()), (7 << 21) + (2 << 30));
        assert_eq!(free_bytes_in(&root.path().join("absent")), 0);
    }
}
