"""Frame Attention Networks for facial expression recognition in videos."""

from Code.network.fan import FAN, FANOutput
from Code.network.pretrained import LoadReport, load_fan, load_published

__all__ = ["FAN", "FANOutput", "LoadReport", "load_fan", "load_published"]
