"""How long a network takes without some channels or blocks: layers are measured by the runtime, and added up."""
