"""How fast models are on this machine: steps of dynamics at growing sizes, beside what the hardware allows."""
