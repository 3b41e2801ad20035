"""The fleet: see all hosts at a glance, add them, remove them, and find what disagrees.

new        write a host file and register the host    free       free addresses, MACs, names and disks
draft      the text of a new host file                place      put a host file in place, complete or not at all
instances  the list shared with other programs        remove     undo `new`
check      find disagreements                         ask        a question to a hypervisor, with a time limit
ansible    convert an old Ansible folder              variables  its variables and their keys: one table
folder     read that folder                           gather     the status of hosts, and what is shared in it
status     one host's status, as a row                guest      what a guest is asked
actions    what a person must do                      page       the page for a browser
metrics    the file for Prometheus                    parts      what the verbs take from a host file
upgrade    newest versions, or back                   wayback    put the old version and state back
verdict    what broke, and the sentences about it     unfinished the note of an upgrade that is under way
"""

from __future__ import annotations
