"""The port to libvirt. It uses libvirt's API alone, so that a hypervisor behind qemu+ssh:// works like a local one.

`uri` says where a hypervisor is, `connection` opens it and translates errors, `storage` has pools and volumes,
`network` DHCP reservations, `domain` the VM itself, and `usage` which disks and MACs all domains use.
"""
