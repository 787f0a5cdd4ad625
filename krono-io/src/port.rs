//! Ports: devices that were opened, with all their queues.

use std::ffi::{CStr, CString, c_int};
use std::fmt;
use std::ptr;
use std::sync::Arc;

use dpdk_sys::{rte_eth_conf, rte_eth_dev_info};
use krono_core::packet::Mac;

use crate::dpdk_log::explained;
use crate::eal::{Eal, pci_name};
use crate::flow::Rule;
use crate::pool::Pool;
use crate::queue::{QueueId, RxQueue, TxQueue};
use crate::rings::Rings;

/// A port's number in DPDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u16);

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How a port is to be opened.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// How many receive queues. Frames reach the first one unless they are told to go to another
    /// ([`Port::steer`]) or to [spread](Self::spread).
    pub rx_queues: u16,
    /// Whether fewer receive queues will do where the device has not so many: whoever polls all of
    /// them gets all frames.
    pub or_fewer_rx: bool,
    /// How many transmit queues.
    pub tx_queues: u16,
    /// Frames in a receive queue's ring; the driver rounds it to what it can.
    pub rx_ring: u16,
    /// Frames in a transmit queue's ring; likewise.
    pub tx_ring: u16,
    /// The largest IP packet on the link, bytes.
    pub mtu: u16,
    /// Whether to receive frames for other MAC addresses than the device's own: those of shards.
    pub promiscuous: bool,
    /// Whether frames spread over all receive queues by their flows (RSS), where the device can
    /// do that. Not for shards: their frames must reach the shard that they are for.
    pub spread: bool,
}

impl Default for PortConfig {
    fn default() -> Self {
        PortConfig {
            rx_queues: 1,
            or_fewer_rx: false,
            tx_queues: 1,
            rx_ring: 1024,
            tx_ring: 1024,
            mtu: 1500,
            promiscuous: true,
            spread: false,
        }
    }
}

/// A port's own counts since it was opened, where its driver keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames received.
    pub rx_packets: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames lost because the receive ring was full.
    pub rx_missed: u64,
    /// Frames received damaged.
    pub rx_errors: u64,
    /// Frames that the device failed to send.
    pub tx_errors: u64,
    /// Frames lost because the buffer pool was empty.
    pub rx_no_buffer: u64,
}

/// Why a port was not opened, or will not do something.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The device is not there, or its driver will not have it.
    #[error("device {device} cannot be opened: {reason}{}", permission_hint(device))]
    Attach {
        /// The device as it was asked for.
        device: String,
        /// What DPDK says.
        reason: String,
    },
    /// A PCI device that no driver has taken.
    #[error(
        "device {device}: no such port; is the device there (lspci), bound to vfio-pci or a driver \
         that DPDK shares it with (dpdk-devbind.py --status), and may this user open it?"
    )]
    NoPciDevice {
        /// The device as it was asked for.
        device: String,
    },
    /// There are as many ports as DPDK can have.
    #[error(
        "device {device}: DPDK has {} ports at most, and they are all taken",
        dpdk_sys::RTE_MAX_ETHPORTS
    )]
    TooManyPorts {
        /// The device as it was asked for.
        device: String,
    },
    /// The device is open already.
    #[error("device {device}: opened twice; one port may serve several shards by its queues")]
    InUse {
        /// The device as it was asked for.
        device: String,
    },
    /// The device has fewer queues.
    #[error(
        "device {device}: {rx} receive and {tx} transmit queues wanted, it has {rx_max} and {tx_max}"
    )]
    Queues {
        /// The device as it was asked for.
        device: String,
        /// Receive queues wanted.
        rx: u16,
        /// Transmit queues wanted.
        tx: u16,
        /// Receive queues to be had.
        rx_max: u16,
        /// Transmit queues to be had.
        tx_max: u16,
    },
    /// The pool is plain memory.
    #[error("device {device}: its buffers must come from the EAL's memory")]
    MemPool {
        /// The device as it was asked for.
        device: String,
    },
    /// The driver refused a step.
    #[error("device {device}: cannot {step}: {reason}")]
    Refused {
        /// The device as it was asked for.
        device: String,
        /// What was being done.
        step: &'static str,
        /// What DPDK says.
        reason: String,
    },
}

/// A device that is open, closed with the last of its `Port` and its queues.
pub(crate) struct Device {
    id: PortId,
    name: String,
    /// What it is made of, if it is made of rings; freed when both ends are closed.
    _rings: Option<Arc<Rings>>,
    eal: Eal,
}

impl Device {
    pub(crate) fn id(&self) -> PortId {
        self.id
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: nobody polls: the queues are gone, and this was the last to hold the device. A
        // driver without flow rules has none to flush, and says only that.
        unsafe {
            dpdk_sys::rte_flow_flush(self.id.0, ptr::null_mut());
            dpdk_sys::rte_eth_dev_stop(self.id.0);
            dpdk_sys::rte_eth_dev_close(self.id.0);
        }
        self.eal.release_port(self.id);
    }
}

/// A port with its queues, as it is opened.
pub type Opened = (Port, Vec<RxQueue>, Vec<TxQueue>);

/// An open port: for looking at it, while its queues are where the packets are.
pub struct Port {
    device: Arc<Device>,
    driver: String,
    mac: Mac,
}

impl Port {
    /// Opens a device and starts it: a virtual one by its vdev string, like
    /// `net_af_packet0,iface=eth1`, or one by its PCI address, which must be in
    /// [`EalConfig::devices`](crate::EalConfig::devices) too. Received frames come in buffers of
    /// `pool`.
    ///
    /// The port closes when it and all its queues are dropped.
    ///
    /// # Errors
    /// If the device is not there or is open already, or it or its driver refuse what is asked.
    pub fn open(
        eal: &Eal,
        device: &str,
        config: &PortConfig,
        pool: &Pool,
    ) -> Result<Opened, PortError> {
        Port::start(eal, attach(device)?, device, None, config, pool)
    }

    /// Makes two ports that are joined crosswise: what one sends the other receives, in order and
    /// without a device, at the cost of a ring for each queue and direction. Queue n of one is
    /// joined to queue n of the other; a ring has room for `tx_ring` frames.
    ///
    /// `name` tells such pairs of one process apart. A port that is closed leaves the other without
    /// an end: its frames pile up.
    ///
    /// # Errors
    /// If DPDK has no more ports or memory.
    pub fn pair(
        eal: &Eal,
        name: &str,
        config: &PortConfig,
        pool: &Pool,
    ) -> Result<[Opened; 2], PortError> {
        let rings = Arc::new(Rings::new(name, config)?);
        let end = |end| {
            let name = format!("{name}-{end}");
            let id = rings.port(&name, end)?;
            let (mut port, rx, tx) =
                Port::start(eal, id, &name, Some(rings.clone()), config, pool)?;
            port.mac = Mac([0x02, b'r', b'i', b'n', b'g', id.0 as u8]);
            Ok((port, rx, tx))
        };
        Ok([end(0)?, end(1)?])
    }

    fn start(
        eal: &Eal,
        id: PortId,
        device: &str,
        rings: Option<Arc<Rings>>,
        config: &PortConfig,
        pool: &Pool,
    ) -> Result<Opened, PortError> {
        if !eal.claim_port(id) {
            return Err(PortError::InUse { device: device.into() });
        }
        let device = Arc::new(Device { id, name: device.into(), _rings: rings, eal: eal.clone() });
        let mut config = config.clone();
        if config.or_fewer_rx {
            config.rx_queues = config.rx_queues.min(device.info()?.max_rx_queues).max(1);
        }
        device.start(&config, pool)?;
        let (driver, mac) = (device.driver()?, device.mac()?);
        // SAFETY: the queue was set up just now, and is handed out once.
        let rx_queue = |queue| unsafe { RxQueue::of_device(&device, QueueId(queue)) };
        // SAFETY: as above.
        let tx_queue = |queue| unsafe { TxQueue::of_device(&device, QueueId(queue)) };
        let rx = (0..config.rx_queues).map(rx_queue).collect();
        let tx = (0..config.tx_queues).map(tx_queue).collect();
        Ok((Port { device, driver, mac }, rx, tx))
    }

    /// The port's number.
    pub fn id(&self) -> PortId {
        self.device.id
    }

    /// The device as it was asked for.
    pub fn device(&self) -> &str {
        &self.device.name
    }

    /// The name of the DPDK driver that the device has, like `net_af_packet`.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// The device's own MAC address.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Has the device deliver frames for `mac`, tagged with `vlan` if that is given, to one of its
    /// receive queues, until the port closes. Rules must not match the same frames: which of them
    /// would win is the driver's business.
    ///
    /// `mac` also becomes an address of the device itself, if it can have more than one: then it
    /// need not be promiscuous to receive these frames.
    ///
    /// # Errors
    /// [`PortError::Refused`] if the driver has no flow rules, as virtual devices mostly have
    /// none, or not this one.
    pub fn steer(&mut self, mac: Mac, vlan: Option<u16>, queue: QueueId) -> Result<(), PortError> {
        Rule::new(mac, vlan, queue)
            .install(self.device.id)
            .map_err(|reason| self.device.refused("steer frames by destination MAC", reason))?;
        if mac != self.mac && !mac.is_group() {
            self.device.add_mac(mac);
        }
        Ok(())
    }

    /// Whether the link is up; of a memif, whether there is somebody at the other end. Not for the
    /// packet path.
    pub fn is_up(&self) -> bool {
        let mut link = dpdk_sys::rte_eth_link::default();
        // SAFETY: the port is open; a driver that cannot say leaves the link down.
        unsafe { dpdk_sys::rte_eth_link_get_nowait(self.device.id.0, &mut link) };
        link.link_status() != 0
    }

    /// What the driver has counted.
    pub fn stats(&self) -> PortStats {
        let mut stats = dpdk_sys::rte_eth_stats::default();
        // SAFETY: the port is open; a driver without statistics leaves the zeroes.
        unsafe { dpdk_sys::rte_eth_stats_get(self.device.id.0, &mut stats) };
        PortStats {
            rx_packets: stats.ipackets,
            tx_packets: stats.opackets,
            rx_bytes: stats.ibytes,
            tx_bytes: stats.obytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            tx_errors: stats.oerrors,
            rx_no_buffer: stats.rx_nombuf,
        }
    }
}

/// Asks for receive-side scaling by all of IP, TCP and UDP that the device can hash.
fn spread(conf: &mut rte_eth_conf, info: &rte_eth_dev_info) {
    let wanted = dpdk_sys::RTE_ETH_RSS_IP | dpdk_sys::RTE_ETH_RSS_TCP | dpdk_sys::RTE_ETH_RSS_UDP;
    let able = u64::from(wanted) & info.flow_type_rss_offloads;
    if able != 0 {
        conf.rxmode.mq_mode = dpdk_sys::rte_eth_rx_mq_mode_RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = able;
    }
}

/// The port of a device, which is made if it is a virtual one.
fn attach(device: &str) -> Result<PortId, PortError> {
    let failed = |reason| PortError::Attach { device: device.into(), reason };
    let c_string = |text: &str| CString::new(text).map_err(|_| failed("the name has a NUL".into()));
    let pci = pci_name(device);
    let vdev_name = device.split(',').next().unwrap_or_default();
    let name = c_string(pci.as_deref().unwrap_or(vdev_name))?;
    if let Some(id) = port_by_name(&name) {
        return Ok(id);
    }
    if pci.is_some() {
        return Err(PortError::NoPciDevice { device: device.into() });
    }
    if port_count() == dpdk_sys::RTE_MAX_ETHPORTS {
        return Err(PortError::TooManyPorts { device: device.into() });
    }
    let arguments = c_string(device)?;
    // SAFETY: the EAL is up, and copies the string.
    explained(|| unsafe { dpdk_sys::rte_dev_probe(arguments.as_ptr()) }).map_err(failed)?;
    port_by_name(&name).ok_or_else(|| failed("its driver made no port".into()))
}

/// Drivers of network interfaces do not say that it was a permission which they lacked.
fn permission_hint(device: &str) -> &'static str {
    // SAFETY: asks for a number.
    let is_root = unsafe { libc::geteuid() } == 0;
    match device.contains("iface=") && !is_root {
        true => " (network interfaces take root, or CAP_NET_RAW and CAP_NET_ADMIN)",
        false => "",
    }
}

fn port_by_name(name: &CString) -> Option<PortId> {
    let mut id = 0;
    // SAFETY: a string and a place for the result.
    let found = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) };
    (found == 0).then_some(PortId(id))
}

pub(crate) fn port_count() -> u32 {
    // SAFETY: counts.
    unsafe { dpdk_sys::rte_eth_dev_count_total().into() }
}

impl Device {
    /// Makes a DPDK call on the device; a failure says which step it was.
    fn step(&self, step: &'static str, call: impl FnOnce() -> c_int) -> Result<(), PortError> {
        explained(call).map(drop).map_err(|reason| self.refused(step, reason))
    }

    fn refused(&self, step: &'static str, reason: String) -> PortError {
        PortError::Refused { device: self.name.clone(), step, reason }
    }

    /// What the device can do.
    fn info(&self) -> Result<rte_eth_dev_info, PortError> {
        let mut info = rte_eth_dev_info::default();
        // SAFETY: an attached device, and a place for the result.
        self.step("describe it", || unsafe {
            dpdk_sys::rte_eth_dev_info_get(self.id.0, &mut info)
        })?;
        Ok(info)
    }

    /// The name of the device's driver.
    fn driver(&self) -> Result<String, PortError> {
        let name = self.info()?.driver_name;
        if name.is_null() {
            return Ok("unknown".into());
        }
        // SAFETY: a driver's name is a string that stays as long as the driver.
        Ok(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
    }

    /// The device's own address.
    fn mac(&self) -> Result<Mac, PortError> {
        let mut address = dpdk_sys::rte_ether_addr::default();
        // SAFETY: an attached device, and a place for the result.
        self.step("ask for its MAC address", || unsafe {
            dpdk_sys::rte_eth_macaddr_get(self.id.0, &mut address)
        })?;
        Ok(Mac(address.addr_bytes))
    }

    /// Sets up the device and all its queues, and starts it.
    fn start(&self, config: &PortConfig, pool: &Pool) -> Result<(), PortError> {
        let pool =
            pool.mempool().ok_or_else(|| PortError::MemPool { device: self.name.clone() })?;
        let id = self.id.0;
        self.configure(config)?;
        let (mut rx_ring, mut tx_ring) = (config.rx_ring, config.tx_ring);
        // SAFETY: a configured device, and two numbers to be rounded.
        self.step("have rings of this size", || unsafe {
            dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut rx_ring, &mut tx_ring)
        })?;
        // SAFETY: an attached device; the result is a socket, or -1 for any.
        let socket = unsafe { dpdk_sys::rte_eth_dev_socket_id(id) }.cast_unsigned();
        for queue in 0..config.rx_queues {
            // SAFETY: the device is configured and not started; the pool stays as long as the EAL.
            self.step("set up a receive queue", || unsafe {
                dpdk_sys::rte_eth_rx_queue_setup(id, queue, rx_ring, socket, ptr::null(), pool)
            })?;
        }
        for queue in 0..config.tx_queues {
            // SAFETY: the device is configured and not started.
            self.step("set up a transmit queue", || unsafe {
                dpdk_sys::rte_eth_tx_queue_setup(id, queue, tx_ring, socket, ptr::null())
            })?;
        }
        // SAFETY: all queues are set up.
        self.step("start", || unsafe { dpdk_sys::rte_eth_dev_start(id) })?;
        if config.promiscuous {
            self.go_promiscuous();
        }
        Ok(())
    }

    fn configure(&self, config: &PortConfig) -> Result<(), PortError> {
        let info = self.info()?;
        let (rx, tx) = (config.rx_queues, config.tx_queues);
        let (rx_max, tx_max) = (info.max_rx_queues, info.max_tx_queues);
        if rx > rx_max || tx > tx_max {
            return Err(PortError::Queues { device: self.name.clone(), rx, tx, rx_max, tx_max });
        }
        let mut conf = rte_eth_conf::default();
        conf.rxmode.mtu = config.mtu.into();
        // Frames of several buffers come from ports of a larger MTU.
        let segments = u64::from(dpdk_sys::RTE_ETH_TX_OFFLOAD_MULTI_SEGS);
        conf.txmode.offloads = info.tx_offload_capa & segments;
        if config.spread && rx > 1 {
            spread(&mut conf, &info);
        }
        // SAFETY: an attached device that is not started; the configuration is copied.
        self.step("configure it", || unsafe {
            dpdk_sys::rte_eth_dev_configure(self.id.0, rx, tx, &conf)
        })
    }

    /// Some have no such mode, since they deliver everything anyway: capture files, rings.
    fn go_promiscuous(&self) {
        // SAFETY: a started device.
        let switched = self
            .step("go promiscuous", || unsafe { dpdk_sys::rte_eth_promiscuous_enable(self.id.0) });
        if let Err(error) = switched {
            log::info!("{error}; frames for other MAC addresses than its own may not arrive");
        }
    }
    /// Some have one address only, or no more room: promiscuous mode does it then.
    fn add_mac(&self, mac: Mac) {
        let mut address = dpdk_sys::rte_ether_addr { addr_bytes: mac.0 };
        // SAFETY: a started device, which copies the address; pools are for virtual machines.
        let added = self.step("have one more MAC address", || unsafe {
            dpdk_sys::rte_eth_dev_mac_addr_add(self.id.0, &mut address, 0)
        });
        if let Err(error) = added {
            log::info!("{error}; frames for {mac} arrive in promiscuous mode only");
        }
    }
}
