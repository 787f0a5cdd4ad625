//! Where threads run that move no packets.
//!
//! The EAL pins the thread that starts it, and threads inherit that: a control thread would share
//! a CPU with a busy worker.

use core_affinity::CoreId;

/// The CPUs that no worker has.
#[derive(Clone, Debug)]
pub struct SpareCpus {
    /// The one to run on, none if it is all the same.
    choice: Option<CoreId>,
}

impl SpareCpus {
    /// Finds a CPU that is not among `worker_cpus`. Is to be asked before the EAL is started,
    /// when this thread may still run everywhere that the process may. Where workers have all
    /// CPUs the last one is shared.
    pub fn find(worker_cpus: &[usize]) -> SpareCpus {
        let cpus = core_affinity::get_core_ids().unwrap_or_default();
        let spare = cpus.iter().rev().find(|cpu| !worker_cpus.contains(&cpu.id));
        SpareCpus { choice: spare.or(cpus.last()).copied() }
    }

    /// Moves the calling thread there.
    pub fn occupy(&self) {
        if let Some(cpu) = self.choice
            && !core_affinity::set_for_current(cpu)
        {
            log::warn!("a thread cannot be moved to CPU {}", cpu.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_moves_to_a_cpu_without_workers() {
        let all = core_affinity::get_core_ids().expect("Linux tells");
        let [first, .., last] = all[..] else { return };
        let spare = SpareCpus::find(&[last.id]);
        assert_ne!(spare.choice, Some(last));
        let moved = std::thread::spawn(move || {
            assert!(core_affinity::set_for_current(last));
            spare.occupy();
            core_affinity::get_core_ids().expect("Linux tells")
        });
        let [cpu] = moved.join().expect("it does not panic")[..] else { panic!("not one CPU") };
        assert_ne!(cpu, last);

        let ids: Vec<_> = all.iter().map(|cpu| cpu.id).collect();
        assert!(SpareCpus::find(&ids).choice.is_some(), "shared where there is no other");
        assert_eq!(SpareCpus::find(&ids[1..]).choice, Some(first));
    }
}
