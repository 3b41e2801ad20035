"""Libvirt, and nothing but libvirt: so that a hypervisor at the other end of qemu+ssh:// works like a local one.

`connection` opens it and turns its errors into sentences, `storage` has pools and volumes, `network` the DHCP
reservations, `domain` the VM itself.
"""
