"""What decode processes compute from pictures. These modules do not import torch, which would take
each process seconds and much memory."""
