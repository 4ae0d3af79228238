//! Every peer's settings, with where they are documented: the one place to add to or to change.
//!
//! Each peer runs at its defaults and at the settings that its documentation offers for one machine and that were
//! best somewhere in short runs. Not every one pays on every kind of machine (kernel single copy was faster than two
//! copies on an Intel Xeon of 2023, slower on an AMD EPYC of 2022), so all of them run, and ranks is compared with
//! the best of each entry. Pinning is not among them: it is the same for all, see `contender.rs`.

/// One way to run a peer.
pub(crate) struct Configuration {
    pub(crate) peer: &'static str,
    pub(crate) name: &'static str,
    /// What it does, in words.
    pub(crate) purpose: &'static str,
    pub(crate) settings: Settings,
    /// Added where there are more ranks than cores.
    pub(crate) crowded: Settings,
    /// Where its documentation is: an address, or a command of the peer.
    pub(crate) source: &'static str,
}

/// Words with spaces between them: variables as `NAME=value`, and arguments of the peer's launcher.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) environment: &'static str,
    pub(crate) arguments: &'static str,
}

pub(crate) const DEFAULT: &str = "default";

pub(crate) static CONFIGURATIONS: [Configuration; 14] = [
    Configuration {
        peer: "openmpi4",
        name: DEFAULT,
        purpose: "as installed",
        settings: NONE,
        // It sees by itself that there are more ranks than cores, and yields.
        crowded: NONE,
        source: OPEN_MPI_4,
    },
    Configuration {
        peer: "openmpi4",
        name: "eager",
        purpose: "kernel single copy, up to 16 KiB eager",
        settings: arguments("--mca btl_vader_eager_limit 16384 --mca btl_vader_free_list_num 64"),
        crowded: OPEN_MPI_YIELD,
        source: OPEN_MPI_4,
    },
    Configuration {
        peer: "openmpi4",
        name: "copy",
        purpose: "no kernel single copy, up to 64 KiB eager",
        settings: arguments(
            "--mca btl_vader_single_copy_mechanism none --mca btl_vader_eager_limit 65536 \
             --mca btl_vader_max_send_size 65536",
        ),
        crowded: OPEN_MPI_YIELD,
        source: OPEN_MPI_4,
    },
    Configuration {
        peer: "openmpi4",
        name: "ucx",
        purpose: "UCX on shared memory, rendezvous from 8 KiB",
        settings: OPEN_MPI_UCX,
        crowded: OPEN_MPI_YIELD,
        source: OPEN_MPI_UCX_SOURCE,
    },
    Configuration {
        peer: "openmpi5",
        name: DEFAULT,
        purpose: "as installed",
        settings: NONE,
        crowded: NONE,
        source: OPEN_MPI_5,
    },
    Configuration {
        peer: "openmpi5",
        name: "copy",
        purpose: "no kernel single copy, up to 64 KiB eager",
        settings: arguments(
            "--mca pml ob1 --mca smsc ^cma --mca btl_sm_eager_limit 65536 --mca btl_sm_max_send_size 65536",
        ),
        crowded: OPEN_MPI_YIELD,
        source: OPEN_MPI_5,
    },
    Configuration {
        peer: "openmpi5",
        name: "ucx",
        purpose: "UCX on shared memory, rendezvous from 8 KiB",
        settings: OPEN_MPI_UCX,
        crowded: OPEN_MPI_YIELD,
        source: OPEN_MPI_UCX_SOURCE,
    },
    Configuration {
        peer: "mpich5",
        name: DEFAULT,
        purpose: "as installed",
        settings: NONE,
        crowded: NONE,
        source: MPICH,
    },
    Configuration {
        peer: "mpich5",
        name: "ucx",
        purpose: "UCX's shared memory instead of its own",
        settings: environment("MPIR_CVAR_NOLOCAL=1 UCX_TLS=sm,self"),
        crowded: MPICH_YIELD,
        source: MPICH,
    },
    Configuration {
        peer: "mpich5",
        name: "buffers",
        purpose: "1 MiB of shared buffers for broadcast and reduction",
        settings: environment(
            "MPIR_CVAR_BCAST_INTRANODE_BUFFER_TOTAL_SIZE=1048576 \
             MPIR_CVAR_REDUCE_INTRANODE_BUFFER_TOTAL_SIZE=1048576",
        ),
        crowded: MPICH_YIELD,
        source: MPICH,
    },
    Configuration {
        peer: "impi",
        name: DEFAULT,
        purpose: "as installed",
        settings: NONE,
        // It yields by default: I_MPI_WAIT_MODE, I_MPI_THREAD_YIELD and the spin counts made nothing faster.
        crowded: NONE,
        source: INTEL,
    },
    Configuration {
        peer: "impi",
        name: "avx2",
        purpose: "the transport tuned for Broadwell, with AVX2",
        settings: environment("I_MPI_SHM=bdw_avx2"),
        crowded: NONE,
        source: INTEL,
    },
    Configuration {
        peer: "impi",
        name: "avx512",
        purpose: "the transport tuned for Skylake, with AVX-512",
        settings: environment("I_MPI_SHM=skx_avx512"),
        crowded: NONE,
        source: INTEL,
    },
    Configuration {
        peer: "impi",
        name: "cells",
        purpose: "forward cells of 64 KiB",
        settings: environment("I_MPI_SHM_CELL_FWD_SIZE=65536"),
        crowded: NONE,
        source: INTEL,
    },
];

const NONE: Settings = Settings { environment: "", arguments: "" };

const OPEN_MPI_YIELD: Settings = arguments("--mca mpi_yield_when_idle 1");

/// Without the first two it does not choose UCX on a machine that has no fast network.
const OPEN_MPI_UCX: Settings = Settings {
    environment: "UCX_RNDV_THRESH=8192",
    arguments: "--mca pml ucx --mca opal_common_ucx_tls any --mca opal_common_ucx_devices any",
};

/// Without yields its ranks wait for the end of each other's time slices: a barrier of 4 ranks takes 8 ms on 2 cores.
const MPICH_YIELD: Settings = environment("MPIR_CVAR_POLLS_BEFORE_YIELD=10");

const OPEN_MPI_4: &str = "https://www.open-mpi.org/faq/?category=sm; ompi_info --param btl vader --level 9";
const OPEN_MPI_5: &str = "https://docs.open-mpi.org/en/v5.0.x/tuning-apps/networking/shared-memory.html; \
                          ompi_info --param btl sm --level 9";
const OPEN_MPI_UCX_SOURCE: &str =
    "https://openucx.readthedocs.io/en/master/faq.html; ompi_info --param pml ucx --level 9";
const MPICH: &str = "mpivars; https://openucx.readthedocs.io/en/master/faq.html";
const INTEL: &str = "https://www.intel.com/content/www/us/en/docs/mpi-library/developer-reference-linux/2021-14/\
                     shared-memory-control.html; impi_info -a";

const fn environment(environment: &'static str) -> Settings {
    Settings { environment, arguments: "" }
}

const fn arguments(arguments: &'static str) -> Settings {
    Settings { environment: "", arguments }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_configuration_has_its_own_name() {
        let names: HashSet<_> = CONFIGURATIONS.iter().map(|one| (one.peer, one.name)).collect();
        assert_eq!(names.len(), CONFIGURATIONS.len());
    }

    #[test]
    fn every_peer_runs_at_its_defaults_too() {
        for one in &CONFIGURATIONS {
            let default = CONFIGURATIONS.iter().find(|other| other.peer == one.peer && other.name == DEFAULT);
            let settings = default.expect("no default configuration").settings;
            assert_eq!((settings.environment, settings.arguments), ("", ""));
        }
    }

    #[test]
    fn variables_have_a_value() {
        let all = CONFIGURATIONS.iter().flat_map(|one| [one.settings, one.crowded]);
        for variable in all.flat_map(|settings| settings.environment.split_whitespace()) {
            assert!(variable.contains('='), "{variable}");
        }
    }
}
