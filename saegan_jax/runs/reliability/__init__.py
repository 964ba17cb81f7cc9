"""Whether anything is lost or silent when a training is killed, stopped, damaged or diverges: counted, not assumed."""
