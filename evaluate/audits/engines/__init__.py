"""Where tasks are carried out: in this process, in processes of this machine, or on a cluster."""
