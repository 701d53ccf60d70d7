//! What this machine has: cores, memory, its name. Asked when needed, never cached.

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Cores this process may use (affinity and cgroup quota respected).
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Stack of each thread that may hold a query. SQL is planned, optimized and dropped by recursion, a level for each
/// operator and relation: the limits on those are chosen for this size. Virtual: untouched pages cost no memory.
pub const THREAD_STACK_BYTES: usize = 32 << 20;

/// Memory this process may use in bytes: the machine's, or the container's limit where that is smaller.
pub fn memory_bytes() -> u64 {
    let system = System::new_with_specifics(
        RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()),
    );
    let total = system.total_memory();
    match system.cgroup_limits() {
        Some(limits) if limits.total_memory > 0 => total.min(limits.total_memory),
        _ => total,
    }
}

/// The host's name, or `server` where there is none.
pub fn host_name() -> String {
    System::host_name()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| String::from("server"))
}

/// Bytes that nobody can guess, from the system.
pub fn secret_bytes<const COUNT: usize>() -> std::io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    let mut source = std::fs::File::open("/dev/urandom")?;
    std::io::Read::read_exact(&mut source, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_machine_has_a_core_and_memory_and_a_name() {
        assert!(super::cores() >= 1);
        assert!(super::memory_bytes() > 1 << 20);
        assert!(!super::host_name().is_empty());
    }

    #[test]
    fn secrets_differ() {
        let secret = || super::secret_bytes::<32>().expect("bytes");
        assert_ne!(secret(), secret());
    }
}
