"""TensorFlow only: encoders, contrastive loss, augmentation, fine-tuning."""
