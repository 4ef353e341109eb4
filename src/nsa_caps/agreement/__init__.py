"""One layout for all ranks of a job, for peers and for fleets."""
